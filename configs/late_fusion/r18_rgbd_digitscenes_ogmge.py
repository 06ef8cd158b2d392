"""Two modalities with OGM-GE."""

_base_ = './r18_rgbd_digitscenes.py'
plugins = [dict(type='OGMGE', alpha=0.3)]
