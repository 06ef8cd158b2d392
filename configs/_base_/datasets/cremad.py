"""CREMA-D (audio 257x299, one frame of 224x224, 6 emotions) below data/cremad; every tenth clip for training validates.
Spectrograms as in FD-CMKD. See docs/datasets.md."""

_statistics = dict(mean=dict(visual=[123.675, 116.28, 103.53]), std=dict(visual=[58.395, 57.12, 57.375]))
_dataset = dict(type='CREMAD', root='data/cremad', val_fraction=0.1)
_loader = dict(batch_size=64, num_workers=8)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train'))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
