"""DigitScenes to fuse: rgb and ir of up to three digits, 64x64."""

_dataset = dict(type='DigitScenes', task='fusion', modalities=['rgb', 'ir'], size=64)
_loader = dict(batch_size=16, num_workers=0)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train'))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'ImageFusion'
test_evaluator = 'ImageFusion'
