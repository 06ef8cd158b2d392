"""A small ViT for each of three modalities on DigitScenes, with AdamW."""

_base_ = [
    '../_base_/datasets/digitscenes.py',
    '../_base_/hosts/late_fusion_vit.py',
    '../_base_/schedules/adamw_short.py',
    '../_base_/runtime/default.py',
]
