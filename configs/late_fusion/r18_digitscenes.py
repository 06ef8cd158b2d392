"""ResNet-18 late fusion of three modalities on DigitScenes: the baseline without a plugin."""

_base_ = [
    '../_base_/datasets/digitscenes.py',
    '../_base_/hosts/late_fusion_r18.py',
    '../_base_/schedules/sgd_short.py',
    '../_base_/runtime/default.py',
]
