"""NYU-Depth V2: depth teaches rgb by FD-CMKD. Train configs/fd_cmkd/deeplabv3plus_nyuv2_depth.py first."""

_base_ = './deeplabv3plus_nyuv2_rgb.py'
train_dataloader = dict(dataset=dict(modalities=['rgb', 'depth']))
plugins = [
    dict(
        type='FDCMKD',
        teacher='configs/fd_cmkd/deeplabv3plus_nyuv2_depth.py',
        checkpoint='work_dirs/deeplabv3plus_nyuv2_depth/best.pth',
    )
]
