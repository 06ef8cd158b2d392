"""The same with MWAM on the gradients of the branches."""

_base_ = './yolov8n_dronevehicle.py'
plugins = ['MWAM']
