"""BrainPhantoms: generated heads with the sequences and classes of BraTS, 32x32x32."""

_dataset = dict(type='BrainPhantoms', size=32)
_augment = [dict(type='IntensityShift', scale=(0.9, 1.1), shift=(-0.1, 0.1)), dict(type='VolumeFlip', p=0.5)]
_loader = dict(num_workers=0)

train_dataloader = dict(
    **_loader, batch_size=4, drop_last=True, dataset=dict(**_dataset, split='train', transforms=_augment)
)
val_dataloader = dict(**_loader, batch_size=4, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, batch_size=4, dataset=dict(**_dataset, split='test'))
val_evaluator = dict(type='MeanDice', regions='brats')
test_evaluator = dict(type='MeanDice', regions='brats')
test_cfg = dict(  # the order of the published tables
    subsets=[
        *('t2', 't1ce', 't1', 'flair'),
        *('t1ce+t2', 't1+t1ce', 'flair+t1', 't1+t2', 'flair+t2', 'flair+t1ce'),
        *('flair+t1+t1ce', 'flair+t1+t2', 'flair+t1ce+t2', 't1+t1ce+t2', 'full'),
    ]
)
