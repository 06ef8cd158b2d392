"""MobileNetV2 on the images of CrisisMMD alone: FD-CMKD's recipe for a student or teacher of this modality."""

_base_ = [
    '../_base_/datasets/crisismmd.py',
    '../_base_/schedules/sgd_poly_100e.py',
    '../_base_/runtime/default.py',
]
_only = dict(dataset=dict(modalities=['image']))
train_dataloader = _only
val_dataloader = _only
test_dataloader = _only
model = dict(
    type='LateFusion',
    modalities=['image'],
    num_classes=5,
    encoder=dict(model='mobilenetv2_100', pretrained=True),
    data_preprocessor=dict(mean=dict(image=[123.675, 116.28, 103.53]), std=dict(image=[58.395, 57.12, 57.375])),
)
