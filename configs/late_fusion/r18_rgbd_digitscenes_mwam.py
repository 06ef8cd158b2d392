"""Two modalities with MWAM."""

_base_ = './r18_rgbd_digitscenes.py'
plugins = [dict(type='MWAM')]
