"""UCF101, the first division (one frame of 224x224 and ten fields of flow, 101 actions) below data/ucf101; a tenth of
the videos for training validates. See docs/datasets.md."""

_statistics = dict(
    mean=dict(rgb=[123.675, 116.28, 103.53], flow=128),
    std=dict(rgb=[58.395, 57.12, 57.375], flow=57.63),
)
_dataset = dict(type='UCF101', root='data/ucf101', val_fraction=0.1)
_loader = dict(batch_size=64, num_workers=8)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train'))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
