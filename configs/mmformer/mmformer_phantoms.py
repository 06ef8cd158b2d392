"""A narrow mmFormer on generated heads: minutes on a CPU."""

_base_ = [
    '../_base_/datasets/brain_phantoms.py',
    '../_base_/hosts/mmformer.py',
    '../_base_/schedules/adam_short_volumes.py',
    '../_base_/runtime/default.py',
]
model = dict(widths=(4, 8, 16, 32), train_size=(32, 32, 32), dim=64, heads=4, mlp=128, window=None)
plugins = [dict(type='ModalityDropout', mode='subsets')]
