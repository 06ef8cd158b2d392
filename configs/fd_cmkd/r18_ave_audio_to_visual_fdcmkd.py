"""AVE: sound teaches sight by FD-CMKD. Train configs/fd_cmkd/r18_ave_audio.py first."""

_base_ = './r18_ave_visual.py'
train_dataloader = dict(dataset=dict(modalities=['audio', 'visual']))
plugins = [
    dict(
        type='FDCMKD',
        teacher='configs/fd_cmkd/r18_ave_audio.py',
        checkpoint='work_dirs/r18_ave_audio/best.pth',
    )
]
