"""NYU-Depth V2 (rgb and depth, 480x640, 40 classes) below data/nyuv2; see docs/datasets.md for its layout."""

_statistics = dict(
    mean=dict(rgb=[123.675, 116.28, 103.53], depth=2841.94941272766),
    std=dict(rgb=[58.395, 57.12, 57.375], depth=1417.2594281672277),
)
_dataset = dict(type='NYUv2', root='data/nyuv2', size=(480, 640))
_loader = dict(batch_size=8, num_workers=8)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train'))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'MeanIoU'
test_evaluator = 'MeanIoU'
