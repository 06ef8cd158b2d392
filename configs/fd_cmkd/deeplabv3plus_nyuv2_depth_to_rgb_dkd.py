"""NYU-Depth V2: depth teaches rgb by DKD, to compare with FD-CMKD."""

_base_ = './deeplabv3plus_nyuv2_depth_to_rgb_fdcmkd.py'
plugins = [dict(_base_.plugins[0], type='DKD')]
