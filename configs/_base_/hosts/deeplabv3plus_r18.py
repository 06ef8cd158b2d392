"""DeepLabV3+ on a ResNet-18 of stride 16 for rgb and for depth (in mm), summed at both levels; 40 classes."""

model = dict(
    type='EncoderDecoder',
    modalities=['rgb', 'depth'],
    num_classes=40,
    in_chans=dict(rgb=3, depth=1),
    encoder=dict(model='resnet18', output_stride=16, pretrained=True),
    fusion='Sum',
    head='smp.DeepLabV3Plus',
    data_preprocessor=dict(
        mean=dict(rgb=[123.675, 116.28, 103.53], depth=2841.94941272766),
        std=dict(rgb=[58.395, 57.12, 57.375], depth=1417.2594281672277),
    ),
)
