"""The narrow Robust-MAIL: adversarial training of MAIL with random filters and noise on attention."""

_base_ = './mail_r18_digitscenes_at.py'
plugins = [dict(type='RPAN'), *_base_.plugins]
