"""DeepLabV3+ on NYU-Depth V2, depth alone: no distillation, and the teacher of the other."""

_base_ = [
    '../_base_/datasets/nyuv2.py',
    '../_base_/hosts/deeplabv3plus_r18.py',
    '../_base_/schedules/sgd_poly_50e.py',
    '../_base_/runtime/default.py',
]
_only = dict(dataset=dict(modalities=['depth']))
train_dataloader = dict(batch_size=16, **_only)
val_dataloader = _only
test_dataloader = _only
model = dict(modalities=['depth'], in_chans=1, fusion='Mean')
