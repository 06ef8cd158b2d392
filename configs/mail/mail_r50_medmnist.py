"""MAIL-RN50 on PathMNIST."""

_base_ = './mail_r18_medmnist.py'
model = dict(encoder='mail_rn50')
