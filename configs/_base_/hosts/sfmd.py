"""SF-MD for rgb, depth and ir of three channels each, two classes; 8-bit images, normalised as published."""

_modalities = ['rgb', 'depth', 'ir']

model = dict(
    type='SFMD',
    modalities=_modalities,
    num_classes=2,
    in_chans=dict(rgb=3, depth=3, ir=3),
    preset='official',
    data_preprocessor=dict(mean=dict.fromkeys(_modalities, 127.5), std=dict.fromkeys(_modalities, 128.0)),
)
