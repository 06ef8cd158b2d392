"""Robust-MAIL on PathMNIST: MAIL-RN18 with random filters and noise on attention, trained against ten steps of PGD."""

_base_ = './mail_r18_medmnist.py'
plugins = [
    dict(type='RPAN'),
    dict(type='AdversarialTraining', attack=dict(type='PGD', eps=4 / 255, steps=10, bounds=(0, 255))),
]
