"""Two-stream YOLOv8n on the boxes of DigitScenes with interventions: the margin is asked of the loss of a batch."""

_base_ = '../two_stream_yolo/yolov8n_digitscenes.py'
plugins = [dict(type='Intervention', block=12)]
