"""A narrow FPN on DigitScenes, depth alone: no distillation, and the teacher of the other."""

_base_ = '../segmentation/fpn_r18_digitscenes.py'
model = dict(modalities=['depth'], in_chans=1, fusion='Mean')
