"""CREMA-D: sound teaches sight by DML, to compare with FD-CMKD."""

_base_ = './r18_cremad_audio_to_visual_fdcmkd.py'
plugins = [dict(_base_.plugins[0], type='DML')]
