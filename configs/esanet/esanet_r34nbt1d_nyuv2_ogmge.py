"""ESANet on NYU-Depth V2 with OGM-GE, and the auxiliary heads that give it unimodal predictions."""

_base_ = './esanet_r34nbt1d_nyuv2.py'
model = dict(aux_heads=True)
plugins = [dict(type='OGMGE', alpha=0.3)]
