"""The generic host on the masks of DigitScenes: some four minutes on one CPU thread."""

_base_ = [
    '../_base_/datasets/digitscenes_masks.py',
    '../_base_/hosts/fpn_r18.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/runtime/default.py',
]
