"""The SegFormer-like pair with MWAM on the rates of its branches: AdamW would cancel factors on gradients."""

_base_ = './segformer_pvtb0_nyuv2.py'
plugins = [dict(type='MWAM', apply='lr')]
