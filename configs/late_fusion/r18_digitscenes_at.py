"""The baseline with adversarial training: five steps of PGD, up to four grey values in all modalities."""

_base_ = './r18_digitscenes.py'
plugins = [dict(type='AdversarialTraining', attack=dict(type='PGD', eps=4 / 255, steps=5, bounds=(0, 255)))]
