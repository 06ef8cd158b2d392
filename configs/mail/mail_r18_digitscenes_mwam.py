"""The baseline with MWAM on the rates of its branches: AdamW would cancel factors on gradients."""

_base_ = './mail_r18_digitscenes.py'
plugins = [dict(type='MWAM', apply='lr')]
