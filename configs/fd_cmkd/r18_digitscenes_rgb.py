"""A narrow ResNet on DigitScenes, rgb alone: no distillation, and the teacher of the other."""

_base_ = '../late_fusion/r18_digitscenes.py'
model = dict(modalities=['rgb'], in_chans=3)
