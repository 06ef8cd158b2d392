"""The same with MWAM on the auxiliary losses; Adam would cancel factors on gradients."""

_base_ = './mmformer_brats.py'
plugins = [dict(type='MWAM', mode='loss'), dict(type='ModalityDropout', mode='subsets')]
