"""CREMA-D: sight teaches sound by DKD, to compare with FD-CMKD."""

_base_ = './r18_cremad_visual_to_audio_fdcmkd.py'
plugins = [dict(_base_.plugins[0], type='DKD')]
