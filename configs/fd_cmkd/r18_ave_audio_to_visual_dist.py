"""AVE: sound teaches sight by DIST, to compare with FD-CMKD."""

_base_ = './r18_ave_audio_to_visual_fdcmkd.py'
plugins = [dict(_base_.plugins[0], type='DIST')]
