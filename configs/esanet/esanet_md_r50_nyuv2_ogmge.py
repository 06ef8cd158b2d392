"""ESANet-MD with OGM-GE and the auxiliary heads that it needs."""

_base_ = './esanet_md_r50_nyuv2.py'
model = dict(aux_heads=True)
plugins = [dict(type='OGMGE', alpha=0.3), dict(type='ModalityDropout', mode='subsets')]
