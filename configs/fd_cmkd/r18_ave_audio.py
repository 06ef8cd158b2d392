"""A ResNet-18 on AVE, sound alone: no distillation, and the teacher of the other."""

_base_ = [
    '../_base_/datasets/ave.py',
    '../_base_/schedules/sgd_poly_100e.py',
    '../_base_/runtime/default.py',
]
_only = dict(dataset=dict(modalities=['audio']))
train_dataloader = _only
val_dataloader = _only
test_dataloader = _only
model = dict(
    type='LateFusion',
    modalities=['audio'],
    num_classes=28,
    in_chans=1,
    encoder='resnet18',
    data_preprocessor=dict(mean=dict(visual=[123.675, 116.28, 103.53]), std=dict(visual=[58.395, 57.12, 57.375])),
)
