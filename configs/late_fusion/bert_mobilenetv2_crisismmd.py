"""BERT-base and MobileNetV2, the unimodal models of FD-CMKD, in late fusion on CrisisMMD; needs the extra text."""

_base_ = [
    '../_base_/datasets/crisismmd.py',
    '../_base_/schedules/adam_20e_bert.py',
    '../_base_/runtime/default.py',
]
model = dict(
    type='LateFusion',
    modalities=['image', 'text'],
    num_classes=5,
    in_chans=dict(image=3, text=2),
    encoder=dict(
        image=dict(model='mobilenetv2_100', pretrained=True),
        text=dict(type='TextEncoder', model='bert', pretrained='bert-base-uncased'),
    ),
    data_preprocessor=dict(
        mean=dict(image=[123.675, 116.28, 103.53]),
        std=dict(image=[58.395, 57.12, 57.375]),
    ),
)
