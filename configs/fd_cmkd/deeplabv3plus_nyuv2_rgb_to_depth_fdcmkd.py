"""NYU-Depth V2: rgb teaches depth by FD-CMKD. Train configs/fd_cmkd/deeplabv3plus_nyuv2_rgb.py first."""

_base_ = './deeplabv3plus_nyuv2_depth.py'
train_dataloader = dict(dataset=dict(modalities=['rgb', 'depth']))
plugins = [
    dict(
        type='FDCMKD',
        teacher='configs/fd_cmkd/deeplabv3plus_nyuv2_rgb.py',
        checkpoint='work_dirs/deeplabv3plus_nyuv2_rgb/best.pth',
    )
]
