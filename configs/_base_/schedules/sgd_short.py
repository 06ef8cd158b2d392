"""SGD for the test bench: 15 epochs, one cosine after a short warm-up."""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=True, T_max=15, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=15)
