"""The recipe of ESANet for NYUv2 with batches of 8: SGD, one cycle of rate and momentum by epochs, 300 epochs.

The published rate is 0.01 * batch / 8. Its momentum of 0.9 is never used: torch's OneCycleLR cycles 0.95, 0.85, 0.95.
The authors train for 500 epochs, MMANet and MWAM for 300.
"""

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4))
param_scheduler = dict(type='OneCycle', pct_start=0.1, div_factor=25, final_div_factor=1e4, momentum=(0.85, 0.95))
train_cfg = dict(max_epochs=300)
