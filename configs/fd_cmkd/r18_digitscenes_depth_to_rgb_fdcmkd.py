"""DigitScenes: depth teaches rgb by FD-CMKD. Train configs/fd_cmkd/r18_digitscenes_depth.py first."""

_base_ = './r18_digitscenes_rgb.py'
plugins = [
    dict(
        type='FDCMKD',
        teacher='configs/fd_cmkd/r18_digitscenes_depth.py',
        checkpoint='work_dirs/r18_digitscenes_depth/best.pth',
    )
]
