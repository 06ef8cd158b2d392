"""DeepLabV3+ on NYU-Depth V2 with OGM-GE and the auxiliary heads that it needs."""

_base_ = './deeplabv3plus_r18_nyuv2.py'
model = dict(aux_heads=True)
plugins = [dict(type='OGMGE', alpha=0.3)]
