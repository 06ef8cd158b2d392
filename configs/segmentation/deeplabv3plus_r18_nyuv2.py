"""DeepLabV3+ on NYU-Depth V2, 480x640; batch and schedule of FD-CMKD's unimodal models."""

_base_ = [
    '../_base_/datasets/nyuv2.py',
    '../_base_/hosts/deeplabv3plus_r18.py',
    '../_base_/schedules/sgd_poly_50e.py',
    '../_base_/runtime/default.py',
]
train_dataloader = dict(batch_size=16)
