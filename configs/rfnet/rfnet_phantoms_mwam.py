"""The same with MWAM on the auxiliary losses."""

_base_ = './rfnet_phantoms.py'
plugins = [dict(type='MWAM', mode='loss'), dict(type='ModalityDropout', mode='subsets')]
