"""ESANet with a ResNet-34 of factorised blocks for rgb and for depth (in mm), 40 classes."""

model = dict(
    type='ESANet',
    modalities=['rgb', 'depth'],
    num_classes=40,
    in_chans=dict(rgb=3, depth=1),
    encoder=dict(type='ResNetNBt1D', depth=34),  # pretrained=FILE: the authors' ImageNet weights
    neck=dict(type='PyramidContext', kind='ppm'),
    head='ESANetDecoder',
    loss=dict(type='CrossEntropyLoss', weight='median_frequency'),
    data_preprocessor=dict(
        mean=dict(rgb=[123.675, 116.28, 103.53], depth=2841.94941272766),
        std=dict(rgb=[58.395, 57.12, 57.375], depth=1417.2594281672277),
    ),
)
