"""Adam for 50 epochs at one rate (ISFuse's recipe)."""

optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-4))
train_cfg = dict(max_epochs=50)
