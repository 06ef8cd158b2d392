"""A narrow SF-MD on the test bench: ten digits, three modalities, random subsets; minutes on a CPU."""

_base_ = [
    '../_base_/datasets/digitscenes.py',
    '../_base_/hosts/sfmd.py',
    '../_base_/schedules/sgd_short.py',
    '../_base_/runtime/default.py',
]
model = dict(
    num_classes=10,
    in_chans=dict(rgb=3, depth=1, ir=1),
    encoder=dict(type='ResNetSEStem', channels=(16, 32)),
    trunk_channels=(64, 128),
    preset=None,
)
plugins = [dict(type='ModalityDropout', mode='subsets')]
