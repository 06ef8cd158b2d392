"""DigitScenes with boxes of one to three digits, rgb and ir, 96x96."""

_dataset = dict(type='DigitScenes', task='box', modalities=['rgb', 'ir'], size=96)
_loader = dict(batch_size=16, num_workers=0)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train', per_digit=2))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val', per_digit=1))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test', per_digit=2))
val_evaluator = 'MeanAP'
test_evaluator = 'MeanAP'
