"""A ResNet-18 on CREMA-D, sight alone: no distillation, and the teacher of the other."""

_base_ = [
    '../_base_/datasets/cremad.py',
    '../_base_/schedules/sgd_poly_100e.py',
    '../_base_/runtime/default.py',
]
_only = dict(dataset=dict(modalities=['visual']))
train_dataloader = _only
val_dataloader = _only
test_dataloader = _only
model = dict(
    type='LateFusion',
    modalities=['visual'],
    num_classes=6,
    in_chans=3,
    encoder='resnet18',
    data_preprocessor=dict(mean=dict(visual=[123.675, 116.28, 103.53]), std=dict(visual=[58.395, 57.12, 57.375])),
)
