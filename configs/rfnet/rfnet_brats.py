"""RFNet on BraTS 2020 as published, with random subsets of the sequences (docs/volumes.md)."""

_base_ = [
    '../_base_/datasets/brats.py',
    '../_base_/hosts/rfnet.py',
    '../_base_/schedules/adam_poly_300e.py',
    '../_base_/runtime/default.py',
]
model = dict(preset='official')
plugins = [dict(type='ModalityDropout', mode='subsets')]
