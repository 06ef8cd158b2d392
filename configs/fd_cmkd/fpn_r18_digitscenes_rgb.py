"""A narrow FPN on DigitScenes, rgb alone: no distillation, and the teacher of the other."""

_base_ = '../segmentation/fpn_r18_digitscenes.py'
model = dict(modalities=['rgb'], in_chans=3, fusion='Mean')
