"""Two-stream YOLOv8n on DroneVehicle: appendix A.12 of the MWAM paper, which leaves labels, size and schedule open."""

_base_ = [
    '../_base_/datasets/dronevehicle.py',
    '../_base_/hosts/two_stream_yolov8n.py',
    '../_base_/schedules/sgd_100e_yolo.py',
    '../_base_/runtime/default.py',
]
model = dict(num_classes=5)
