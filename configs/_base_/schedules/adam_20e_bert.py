"""Adam at a constant rate of 1e-5 for 20 epochs (FD-CMKD's recipe for BERT)."""

optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-5))
train_cfg = dict(max_epochs=20)
