"""Seconds on one core: two modalities, dropout, a plugin with state, accumulation."""

custom_imports = ['toy_scenes']
model = dict(
    type='LateFusion',
    modalities=['rgb', 'depth'],
    num_classes=4,
    encoder='test_resnet',
    in_chans=dict(rgb=3, depth=1),
    fusion=dict(type='Attention', dropout=0.2),
)
plugins = ['EpochCounter']
_loader = dict(batch_size=4, num_workers=0)
train_dataloader = dict(**_loader, dataset=dict(type='ToyScenes'))
val_dataloader = dict(**_loader, dataset=dict(type='ToyScenes', length=10))
test_dataloader = dict(**_loader, dataset=dict(type='ToyScenes', length=11))
val_evaluator = test_evaluator = 'Accuracy'
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9), clip_grad=dict(max_norm=5.0))
param_scheduler = dict(type='OneCycleLR', eta_max=0.1, total_steps=3 * 6, by_epoch=False)
train_cfg = dict(max_epochs=3)
default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=2, by_epoch=False))
randomness = dict(seed=5)
