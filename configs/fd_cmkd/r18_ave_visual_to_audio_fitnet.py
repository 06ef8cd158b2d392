"""AVE: sight teaches sound by FitNet, to compare with FD-CMKD."""

_base_ = './r18_ave_visual_to_audio_fdcmkd.py'
plugins = [dict(_base_.plugins[0], type='FitNet')]
