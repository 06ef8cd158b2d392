"""The baseline with OGM-GE."""

_base_ = './r18_digitscenes.py'
plugins = [dict(type='OGMGE', alpha=0.3)]
