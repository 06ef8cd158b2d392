"""The same with MWAM on the auxiliary losses."""

_base_ = './mmformer_phantoms.py'
plugins = [dict(type='MWAM', mode='loss'), dict(type='ModalityDropout', mode='subsets')]
