"""ultralytics' recipe with SGD for 100 epochs: three of warm-up by iteration, then a linear decay to a hundredth, no
decay of norms and biases, clipped gradients, and a moving average of the weights, which is what is tested.

Batches of 16 are accumulated to 64 as there, but the gradient is the mean of the four parts, where there it is their
sum; over several processes it is the mean too. Biases warm up as everything else does, and the momentum is constant.
"""

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.937, nesterov=True, weight_decay=5e-4),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),
    clip_grad=dict(max_norm=10),
    accumulative_counts=4,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
    dict(type='LinearLR', start_factor=1, end_factor=0.01, by_epoch=True, begin=3, end=100, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
custom_hooks = [dict(type='ModelEMA')]
