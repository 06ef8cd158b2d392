"""MMANet on CASIA-SURF: SF-MD, distilled from a teacher (MAD) and with more weight on weak combinations (MAR).

Train configs/mmanet/sfmd_casia_surf_teacher.py first; its best.pth is read from its work directory."""

_base_ = './sfmd_casia_surf.py'
model = dict(type='MMANet')
plugins = [
    dict(type='ModalityDropout', mode='subsets'),
    dict(
        type='MAD',
        teacher='configs/mmanet/sfmd_casia_surf_teacher.py',
        checkpoint='work_dirs/sfmd_casia_surf_teacher/best.pth',
        alpha=30,
    ),
    dict(type='MAR', beta=0.5),
]
