"""BraTS 2020 (flair, t1ce, t1, t2) below data/brats; see docs/datasets.md for its layout."""

_dataset = dict(type='BraTS', root='data/brats')
_augment = [  # what follows the crop; hosts differ in its size
    dict(type='VolumeRotation', degrees=10),
    dict(type='IntensityShift', scale=(0.9, 1.1), shift=(-0.1, 0.1), per_slice=True),
    dict(type='VolumeFlip', p=0.5),
]
_loader = dict(num_workers=8)

train_dataloader = dict(
    **_loader,
    batch_size=2,
    drop_last=True,
    dataset=dict(**_dataset, split='train', transforms=[dict(type='VolumeCrop', size=80), *_augment]),
)
val_dataloader = dict(**_loader, batch_size=1, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, batch_size=1, dataset=dict(**_dataset, split='test'))
val_evaluator = dict(type='MeanDice', regions='brats')
test_evaluator = dict(type='MeanDice', regions='brats')
test_cfg = dict(  # the order of the published tables
    subsets=[
        *('t2', 't1ce', 't1', 'flair'),
        *('t1ce+t2', 't1+t1ce', 'flair+t1', 't1+t2', 'flair+t2', 'flair+t1ce'),
        *('flair+t1+t1ce', 'flair+t1+t2', 'flair+t1ce+t2', 't1+t1ce+t2', 'full'),
    ]
)
