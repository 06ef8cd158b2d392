"""CASIA-SURF with OGM-GE."""

_base_ = './r18_casia_surf.py'
plugins = [dict(type='OGMGE', alpha=0.3)]
