"""ESANet-MD with MWAM on the gradients of its branches."""

_base_ = './esanet_md_r50_nyuv2.py'
plugins = [dict(type='MWAM'), dict(type='ModalityDropout', mode='subsets')]
