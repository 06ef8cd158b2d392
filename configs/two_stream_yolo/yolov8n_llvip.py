"""Two-stream YOLOv8n on LLVIP."""

_base_ = [
    '../_base_/datasets/llvip.py',
    '../_base_/hosts/two_stream_yolov8n.py',
    '../_base_/schedules/sgd_100e_yolo.py',
    '../_base_/runtime/default.py',
]
model = dict(num_classes=1)
