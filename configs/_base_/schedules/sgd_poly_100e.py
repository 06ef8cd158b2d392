"""SGD for 100 epochs, the rate falls with the power 0.9 of what is left (FD-CMKD's recipe for classification)."""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = dict(type='PolyLR', power=0.9, begin=0, end=100, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(max_epochs=100)
