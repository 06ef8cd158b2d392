"""Adam for the phantoms: 6 epochs, one cosine by iteration."""

optim_wrapper = dict(optimizer=dict(type='Adam', lr=3e-3, weight_decay=1e-4))
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=6, convert_to_iter_based=True)
train_cfg = dict(max_epochs=6)
