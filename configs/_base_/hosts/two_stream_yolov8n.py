"""Two YOLOv8n backbones, rgb and infrared, fused at three levels by concatenation and a convolution; 8-bit images."""

model = dict(
    type='TwoStreamYOLO',
    modalities=['rgb', 'ir'],
    num_classes=10,
    model='yolov8n',
    in_chans=dict(rgb=3, ir=1),
    fusion='ConcatConv',
    data_preprocessor=dict(std=dict(rgb=255, ir=255)),
)
