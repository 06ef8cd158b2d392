"""The schedule of MAIL: SGD for 200 epochs, a tenth of the rate where ten epochs bring no better score."""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9))
param_scheduler = dict(
    type='ReduceOnPlateauLR', monitor='accuracy', rule='greater', factor=0.1, patience=10, min_value=1e-6
)
train_cfg = dict(max_epochs=200)
