"""mmFormer's recipe: Adam (amsgrad), the rate falls by epochs with the power 0.9 of what is left, 1000 epochs."""

optim_wrapper = dict(optimizer=dict(type='Adam', lr=2e-4, weight_decay=1e-4, amsgrad=True))
param_scheduler = dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=1000, by_epoch=True)
train_cfg = dict(max_epochs=1000)
