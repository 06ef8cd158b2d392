"""A checkpoint after each epoch, the best one by the complete score on the validation data."""

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, keep=2, save_best='auto'))
randomness = dict(seed=0)
