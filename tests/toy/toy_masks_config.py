"""Seconds on one core: segmentation with counted class weights, one cycle by epochs, short batches dropped."""

custom_imports = ['toy_masks']
model = dict(
    type='EncoderDecoder',
    modalities=['rgb', 'depth'],
    num_classes=4,
    encoder='test_resnet',
    in_chans=dict(rgb=3, depth=1),
    head=dict(type='smp.FPN', decoder_pyramid_channels=16, decoder_segmentation_channels=32),
    loss=dict(
        type='WeightedSum',
        losses=[
            dict(type='CrossEntropyLoss', weight='median_frequency'),
            dict(type='smp.DiceLoss', mode='multiclass'),
        ],
        weights=[1.0, 0.5],
    ),
)
train_dataloader = dict(batch_size=4, num_workers=0, drop_last=True, dataset=dict(type='ToyMasks'))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True))
param_scheduler = dict(type='OneCycle', pct_start=0.4)
train_cfg = dict(max_epochs=4)
default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=3, by_epoch=False, keep=9))
randomness = dict(seed=5)
