"""MMANet's recipe for faces, as its code runs it: SGD with Nesterov's momentum, batches of 64, 100 epochs, five of
linear warm-up, then a tenth of the rate after 16, 33 and 50 more. Validation begins after epoch 30."""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[21, 38, 55], gamma=0.1, by_epoch=True),
]
train_cfg = dict(max_epochs=100, val_begin=31)
