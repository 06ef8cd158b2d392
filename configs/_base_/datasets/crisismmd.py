"""CrisisMMD (tweets and their images, 224x224, 5 classes, the pairs with agreed labels) below data/crisismmd, tokenised
for BERT; see docs/datasets.md for its layout."""

_resize = dict(type='Resize', size=224)
_crop = [dict(type='Resize', size=256), dict(type='RandomCrop', size=224), dict(type='RandomFlip')]
_dataset = dict(type='CrisisMMD', root='data/crisismmd', tokenizer='bert-base-uncased')
_loader = dict(batch_size=64, num_workers=8)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train', transforms=_crop))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val', transforms=[_resize]))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test', transforms=[_resize]))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
