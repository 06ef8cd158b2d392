"""The small ViTs with MWAM on the rates of their branches: AdamW would cancel constant factors on gradients."""

_base_ = './vit_digitscenes.py'
plugins = [dict(type='MWAM', apply='lr')]
