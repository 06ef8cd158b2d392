"""MAIL-Seg on the polyps of Kvasir-SEG, one modality; the recipe of the paper as far as it says one."""

_base_ = [
    '../_base_/datasets/kvasir_seg.py',
    '../_base_/schedules/sgd_200e_plateau.py',
    '../_base_/runtime/default.py',
]
model = dict(type='MAILSeg', modalities=['image'], num_classes=2, data_preprocessor=_base_._statistics)
param_scheduler = dict(monitor='mIoU')
