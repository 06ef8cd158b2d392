"""CASIA-SURF with MWAM on the gradients."""

_base_ = './r18_casia_surf.py'
plugins = [dict(type='MWAM')]
