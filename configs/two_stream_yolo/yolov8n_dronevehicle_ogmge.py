"""The same with OGM-GE, which scores each modality by an auxiliary head of its own."""

_base_ = './yolov8n_dronevehicle.py'
model = dict(aux_heads=True)
plugins = ['OGMGE']
