"""ResNet-18 late fusion for face anti-spoofing on CASIA-SURF, 112x112, three modalities."""

_base_ = [
    '../_base_/datasets/casia_surf.py',
    '../_base_/hosts/late_fusion_r18.py',
    '../_base_/schedules/sgd_casia_surf.py',
    '../_base_/runtime/default.py',
]
model = dict(
    num_classes=2,
    in_chans=dict(rgb=3, depth=3, ir=3),
    encoder=dict(channels=(64, 128, 256, 512)),
)
