"""HAM10000 (skin lesions, resized to 128x128, 7 classes) below data/ham10000, divided 80/10/10 by lesion, augmented as
in MAIL. See docs/datasets.md."""

_statistics = dict(mean=dict(image=0), std=dict(image=255))  # values in 0..1
_resize = dict(type='Resize', size=128)
_dataset = dict(type='ImageFolders', root='data/ham10000', layout='ham10000')
_loader = dict(batch_size=32, num_workers=8)

train_dataloader = dict(
    **_loader, drop_last=True, dataset=dict(**_dataset, split='train', transforms=[_resize, dict(type='RandomView')])
)
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val', transforms=[_resize]))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test', transforms=[_resize]))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
