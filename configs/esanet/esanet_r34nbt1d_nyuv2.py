"""ESANet on NYU-Depth V2, 480x640: the published recipe."""

_base_ = [
    '../_base_/datasets/nyuv2.py',
    '../_base_/hosts/esanet_r34_nbt1d.py',
    '../_base_/schedules/sgd_onecycle_nyuv2.py',
    '../_base_/runtime/default.py',
]
