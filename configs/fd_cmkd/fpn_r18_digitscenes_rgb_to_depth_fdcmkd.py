"""DigitScenes: rgb teaches depth by FD-CMKD. Train configs/fd_cmkd/fpn_r18_digitscenes_rgb.py first."""

_base_ = './fpn_r18_digitscenes_depth.py'
plugins = [
    dict(
        type='FDCMKD',
        teacher='configs/fd_cmkd/fpn_r18_digitscenes_rgb.py',
        checkpoint='work_dirs/fpn_r18_digitscenes_rgb/best.pth',
    )
]
