"""RFNet's recipe: Adam (amsgrad), the rate falls by epochs with the power 0.9 of what is left, 300 epochs.

There an epoch is 150 batches of two; here it is one pass over the training data.
"""

optim_wrapper = dict(optimizer=dict(type='Adam', lr=2e-4, weight_decay=1e-4, amsgrad=True))
param_scheduler = dict(type='PolyLR', power=0.9, eta_min=0, begin=0, end=300, by_epoch=True)
train_cfg = dict(max_epochs=300)
