"""A narrow ResNet on DigitScenes, depth alone: no distillation, and the teacher of the other."""

_base_ = '../late_fusion/r18_digitscenes.py'
model = dict(modalities=['depth'], in_chans=1)
