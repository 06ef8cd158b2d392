"""MAIL for small images: one block in each of three stages, half the published widths."""

_modalities = ['rgb', 'depth', 'ir']

model = dict(
    type='MAIL',
    modalities=_modalities,
    num_classes=10,
    in_chans=dict(rgb=3, depth=1, ir=1),
    encoder=dict(type='ERLAEncoder', depths=(1, 1, 1), widths=(32, 64, 128), stem_width=32),
    data_preprocessor=dict(mean=dict.fromkeys(_modalities, 127.5), std=dict.fromkeys(_modalities, 128.0)),
)
