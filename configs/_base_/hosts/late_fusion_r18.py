"""One narrow ResNet-18 for each modality, concatenation, a linear head."""

_modalities = ['rgb', 'depth', 'ir']

model = dict(
    type='LateFusion',
    modalities=_modalities,
    num_classes=10,
    in_chans=dict(rgb=3, depth=1, ir=1),
    encoder=dict(type='TimmEncoder', model='resnet18', channels=(16, 32, 64, 128)),
    fusion='Concat',
    data_preprocessor=dict(mean=dict.fromkeys(_modalities, 127.5), std=dict.fromkeys(_modalities, 128.0)),
)
