"""MAIL in the small, three modalities, on DigitScenes: the baseline without a plugin, minutes on one thread."""

_base_ = [
    '../_base_/datasets/digitscenes.py',
    '../_base_/hosts/mail_r18.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/runtime/default.py',
]
