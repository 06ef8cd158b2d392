"""The baseline with light auxiliary heads, whose losses MWAM weighs."""

_base_ = './r18_digitscenes.py'
model = dict(aux_heads=True)
plugins = [dict(type='MWAM', mode='loss')]
