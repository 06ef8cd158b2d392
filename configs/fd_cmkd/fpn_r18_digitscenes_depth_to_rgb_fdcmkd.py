"""DigitScenes: depth teaches rgb by FD-CMKD. Train configs/fd_cmkd/fpn_r18_digitscenes_depth.py first."""

_base_ = './fpn_r18_digitscenes_rgb.py'
plugins = [
    dict(
        type='FDCMKD',
        teacher='configs/fd_cmkd/fpn_r18_digitscenes_depth.py',
        checkpoint='work_dirs/fpn_r18_digitscenes_depth/best.pth',
    )
]
