"""A narrow MAIL-RN18: a quarter of the published widths."""

_modalities = ['rgb', 'depth', 'ir']

model = dict(
    type='MAIL',
    modalities=_modalities,
    num_classes=10,
    in_chans=dict(rgb=3, depth=1, ir=1),
    encoder=dict(type='ERLAEncoder', widths=(16, 32, 64, 128), stem_width=16),
    data_preprocessor=dict(mean=dict.fromkeys(_modalities, 127.5), std=dict.fromkeys(_modalities, 128.0)),
)
