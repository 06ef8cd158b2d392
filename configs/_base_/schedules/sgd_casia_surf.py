"""The recipe of the MWAM paper for SF-MD on CASIA-SURF: 100 epochs, rate over 10 every 30, batch 64."""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='StepLR', step_size=30, gamma=0.1, by_epoch=True)
train_cfg = dict(max_epochs=100)
