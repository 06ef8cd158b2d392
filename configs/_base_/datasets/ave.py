"""AVE (audio 257x1004, one frame of 224x224, 28 events) below data/ave, official splits. See docs/datasets.md."""

_statistics = dict(mean=dict(visual=[123.675, 116.28, 103.53]), std=dict(visual=[58.395, 57.12, 57.375]))
_dataset = dict(type='AVE', root='data/ave')
_loader = dict(batch_size=64, num_workers=8)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train'))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
