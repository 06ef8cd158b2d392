"""SUN RGB-D (rgb and depth, 480x640, 37 classes) below data/sunrgbd; see docs/datasets.md for its layout."""

_statistics = dict(
    mean=dict(rgb=[123.675, 116.28, 103.53], depth=19025.14930492213 / 8),
    std=dict(rgb=[58.395, 57.12, 57.375], depth=9880.916071806689 / 8),
)
_dataset = dict(type='SUNRGBD', root='data/sunrgbd', size=(480, 640))
_loader = dict(batch_size=8, num_workers=8)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train'))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'MeanIoU'
test_evaluator = 'MeanIoU'
