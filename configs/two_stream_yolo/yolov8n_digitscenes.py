"""Two-stream YOLOv8n on the boxes of DigitScenes: a few minutes on a CPU."""

_base_ = [
    '../_base_/datasets/digitscenes_boxes.py',
    '../_base_/hosts/two_stream_yolov8n.py',
    '../_base_/schedules/adamw_6e_clip.py',
    '../_base_/runtime/default.py',
]
