"""SGD for 50 epochs, the rate falls with the power 0.9 of what is left (FD-CMKD's recipe for NYU-Depth V2)."""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9))
param_scheduler = dict(type='PolyLR', power=0.9, begin=0, end=50, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(max_epochs=50)
