"""ESANet on NYU-Depth V2 with OGM-GE, which needs the auxiliary heads: without them ESANet has no unimodal prediction."""

_base_ = './esanet_r34nbt1d_nyuv2.py'
model = dict(aux_heads=True)
plugins = [dict(type='OGMGE', alpha=0.3)]
