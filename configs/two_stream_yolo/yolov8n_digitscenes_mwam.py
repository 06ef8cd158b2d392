"""The same with MWAM on the rates of the branches: AdamW would cancel factors on gradients."""

_base_ = './yolov8n_digitscenes.py'
plugins = [dict(type='MWAM', apply='lr')]
