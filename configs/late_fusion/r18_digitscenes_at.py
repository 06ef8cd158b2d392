"""The baseline with adversarial training: PGD of 4 grey values on all modalities, which five steps of a quarter reach."""

_base_ = './r18_digitscenes.py'
plugins = [dict(type='AdversarialTraining', attack=dict(type='PGD', eps=4 / 255, steps=5, bounds=(0, 255)))]
