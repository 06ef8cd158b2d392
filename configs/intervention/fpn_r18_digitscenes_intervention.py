"""The generic segmentation host on DigitScenes with interventions."""

_base_ = '../segmentation/fpn_r18_digitscenes.py'
plugins = [dict(type='Intervention', block=8)]
