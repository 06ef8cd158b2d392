"""The baseline with light auxiliary heads: MWAM on their losses and on the gradients."""

_base_ = './r18_digitscenes.py'
model = dict(aux_heads=True)
plugins = [dict(type='MWAM', mode='hybrid')]
