"""AdamW for 300 epochs: a linear warm-up of 1500 iterations, then a linear decay (SegFormer's recipe)."""

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=6e-5, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, begin=0, end=300, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=300)
