"""One narrow ResNet-18 for each modality, concatenation, a linear head."""

_modalities = ['rgb', 'depth', 'ir']

model = dict(
    type='LateFusion',
    modalities=_modalities,
    num_classes=10,
    in_chans=dict(rgb=3, depth=1, ir=1),
    encoder=dict(type='TimmEncoder', model='resnet18', channels=(16, 32, 64, 128)),
    fusion='Concat',
    data_preprocessor=dict(mean={m: 127.5 for m in _modalities}, std={m: 128.0 for m in _modalities}),
)
