"""ESANet-MD with MWAM on the rates of its branches: AdamW would cancel factors on gradients."""

_base_ = './esanet_md_r18_digitscenes.py'
plugins = [dict(type='MWAM', apply='lr'), dict(type='ModalityDropout', mode='subsets')]
