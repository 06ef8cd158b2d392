"""The baseline with MWAM on the gradients of its branches."""

_base_ = './r18_digitscenes.py'
plugins = [dict(type='MWAM')]
