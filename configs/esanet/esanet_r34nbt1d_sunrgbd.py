"""ESANet on SUN RGB-D, 37 classes, 480x640: the recipe of NYU-Depth V2."""

_base_ = [
    '../_base_/datasets/sunrgbd.py',
    '../_base_/hosts/esanet_r34_nbt1d.py',
    '../_base_/schedules/sgd_onecycle_nyuv2.py',
    '../_base_/runtime/default.py',
]
model = dict(num_classes=37, data_preprocessor=_base_._statistics)
