"""DigitScenes, the embedded test bench: three sensors of unequal difficulty, 48x48, for classification."""

_dataset = dict(type='DigitScenes', size=48)
_loader = dict(batch_size=64, num_workers=0)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train', per_digit=4))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val', per_digit=2))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test', per_digit=3))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
