"""PathMNIST of MedMNIST (128x128, 9 classes) below data/medmnist, official splits, augmented as in MAIL; for another
set give all three data sets its name. See docs/datasets.md."""

_statistics = dict(mean=dict(image=0), std=dict(image=255))  # values in 0..1
_dataset = dict(type='MedMNIST', root='data/medmnist', name='path', size=128)
_loader = dict(batch_size=32, num_workers=8)

train_dataloader = dict(
    **_loader, drop_last=True, dataset=dict(**_dataset, split='train', transforms=[dict(type='RandomView')])
)
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
