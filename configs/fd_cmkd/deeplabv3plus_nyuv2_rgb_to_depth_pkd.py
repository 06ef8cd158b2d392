"""NYU-Depth V2: rgb teaches depth by PKD, to compare with FD-CMKD."""

_base_ = './deeplabv3plus_nyuv2_rgb_to_depth_fdcmkd.py'
plugins = [dict(_base_.plugins[0], type='PKD')]
