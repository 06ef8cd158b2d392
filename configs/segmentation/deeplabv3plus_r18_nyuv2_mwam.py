"""DeepLabV3+ on NYU-Depth V2 with MWAM on the gradients of its branches."""

_base_ = './deeplabv3plus_r18_nyuv2.py'
plugins = [dict(type='MWAM')]
