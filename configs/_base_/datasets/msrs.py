"""MSRS (480x640, visible in colour and infrared) below data/msrs; training on 256x256, cropped, mirrored and transposed
as ISFuse, every twentieth training pair validates. See docs/image_fusion.md."""

_augment = [
    dict(type='RandomCrop', size=256),
    dict(type='RandomFlip'),
    dict(type='RandomFlip', direction='vertical'),
    dict(type='RandomTranspose'),
]
_dataset = dict(type='FusionPairs', root='data/msrs', layout='msrs', val_fraction=0.05)
_loader = dict(num_workers=8)

train_dataloader = dict(
    **_loader, batch_size=16, drop_last=True, dataset=dict(**_dataset, split='train', transforms=_augment)
)
val_dataloader = dict(**_loader, batch_size=4, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, batch_size=4, dataset=dict(**_dataset, split='test'))
val_evaluator = 'ImageFusion'
test_evaluator = 'ImageFusion'
