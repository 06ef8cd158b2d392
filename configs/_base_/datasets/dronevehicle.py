"""DroneVehicle (rgb and infrared, 512x640 within its border, 5 classes) below data/dronevehicle, boxes of the infrared
images; augmented as in ultralytics' recipe, without mosaics in the last 10 of 100 epochs. See docs/detection.md."""

_size = (512, 640)
_augment = [
    dict(type='Mosaic', size=_size, stop_epoch=90),
    dict(type='RandomAffine', size=_size, translate=0.1, scale=0.5),
    dict(type='RandomHSV', h=(-0.015, 0.015), s=(0.3, 1.7), v=(0.6, 1.4), shift_hue=True, modalities='rgb'),
    dict(type='RandomFlip'),
]
_whole = [dict(type='LetterBox', size=_size)]
_dataset = dict(type='DroneVehicle', root='data/dronevehicle')
_loader = dict(batch_size=16, num_workers=8)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train', transforms=_augment))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val', transforms=_whole))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test', transforms=_whole))
val_evaluator = 'MeanAP'
test_evaluator = 'MeanAP'
