"""One narrow ResNet-18 for each of three modalities, summed at each level, and a small FPN decoder."""

_modalities = ['rgb', 'depth', 'ir']

model = dict(
    type='EncoderDecoder',
    modalities=_modalities,
    num_classes=11,
    in_chans=dict(rgb=3, depth=1, ir=1),
    encoder=dict(model='resnet18', channels=(16, 32, 64, 128)),
    fusion='Sum',
    head=dict(type='smp.FPN', decoder_pyramid_channels=64, decoder_segmentation_channels=32),
    data_preprocessor=dict(mean=dict.fromkeys(_modalities, 127.5), std=dict.fromkeys(_modalities, 128.0)),
)
