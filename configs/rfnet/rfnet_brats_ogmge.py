"""The same with OGM-GE, in the form that scales rates."""

_base_ = './rfnet_brats.py'
plugins = [dict(type='OGMGE', noise=False, apply='lr'), dict(type='ModalityDropout', mode='subsets')]
