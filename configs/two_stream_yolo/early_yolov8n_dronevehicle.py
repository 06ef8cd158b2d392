"""The cheap baseline: one YOLOv8n whose first layer sees both modalities."""

_base_ = './yolov8n_dronevehicle.py'
model = dict(
    _delete_=True,
    type='EarlyFusionYOLO',
    modalities=['rgb', 'ir'],
    num_classes=5,
    model='yolov8n',
    in_chans=dict(rgb=3, ir=1),
    data_preprocessor=dict(std=dict(rgb=255, ir=255)),
)
