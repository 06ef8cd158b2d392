"""CASIA-SURF (three sensors, 112x112) below data/casia_surf; see docs/datasets.md for its layout."""

_dataset = dict(type='CASIASURF', root='data/casia_surf')
_loader = dict(batch_size=64, num_workers=8)

train_dataloader = dict(**_loader, dataset=dict(**_dataset, split='train'))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
