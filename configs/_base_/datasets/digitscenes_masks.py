"""DigitScenes with masks: background and ten digits, up to three in a scene, 64x64."""

_dataset = dict(type='DigitScenes', task='mask', size=64)
_loader = dict(batch_size=32, num_workers=0)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train', per_digit=4))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val', per_digit=1))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test', per_digit=4))
val_evaluator = 'MeanIoU'
test_evaluator = 'MeanIoU'
