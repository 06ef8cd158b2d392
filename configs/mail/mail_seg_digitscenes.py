"""A narrow MAIL-Seg of three modalities on the masks of DigitScenes."""

_base_ = [
    '../_base_/datasets/digitscenes_masks.py',
    '../_base_/schedules/adamw_6e.py',
    '../_base_/runtime/default.py',
]
_modalities = ['rgb', 'depth', 'ir']

model = dict(
    type='MAILSeg',
    modalities=_modalities,
    num_classes=11,
    in_chans=dict(rgb=3, depth=1, ir=1),
    encoder=dict(
        type='ERLAEncoder', depths=(1, 1, 1), widths=(16, 32, 64), stem_width=16
    ),  # digits are lost on maps of 1/32
    head=dict(type='ERLADecoder', widths=(32, 16)),
    data_preprocessor=dict(mean=dict.fromkeys(_modalities, 127.5), std=dict.fromkeys(_modalities, 128.0)),
)
