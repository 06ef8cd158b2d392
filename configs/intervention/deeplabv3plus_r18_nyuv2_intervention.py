"""DeepLabV3+ on NYU-Depth V2 with interventions."""

_base_ = '../segmentation/deeplabv3plus_r18_nyuv2.py'
plugins = [dict(type='Intervention')]
