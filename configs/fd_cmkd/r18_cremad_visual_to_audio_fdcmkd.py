"""CREMA-D: sight teaches sound by FD-CMKD. Train configs/fd_cmkd/r18_cremad_visual.py first."""

_base_ = './r18_cremad_audio.py'
train_dataloader = dict(dataset=dict(modalities=['audio', 'visual']))
plugins = [
    dict(
        type='FDCMKD',
        teacher='configs/fd_cmkd/r18_cremad_visual.py',
        checkpoint='work_dirs/r18_cremad_visual/best.pth',
    )
]
