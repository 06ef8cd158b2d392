"""ESANet on NYU-Depth V2 with MWAM on the gradients of its branches."""

_base_ = './esanet_r34nbt1d_nyuv2.py'
plugins = [dict(type='MWAM')]
