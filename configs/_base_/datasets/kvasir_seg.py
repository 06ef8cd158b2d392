"""Kvasir-SEG (polyps, resized to 224x224, background and polyp) below data/kvasir_seg, divided 80/10/10, augmented as
in MAIL. See docs/datasets.md."""

_statistics = dict(mean=dict(image=0), std=dict(image=255))  # values in 0..1
_resize = dict(type='Resize', size=224)
_dataset = dict(type='ImageMasks', root='data/kvasir_seg', layout='kvasir_seg')
_loader = dict(batch_size=32, num_workers=8)

train_dataloader = dict(
    **_loader, drop_last=True, dataset=dict(**_dataset, split='train', transforms=[_resize, dict(type='RandomView')])
)
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val', transforms=[_resize]))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test', transforms=[_resize]))
val_evaluator = 'MeanIoU'
test_evaluator = 'MeanIoU'
