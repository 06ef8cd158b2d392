"""ISFuse on the pairs of MSRS by fidelity alone: the published schedule."""

_base_ = [
    '../_base_/datasets/msrs.py',
    '../_base_/hosts/isfuse.py',
    '../_base_/schedules/adam_50e.py',
    '../_base_/runtime/default.py',
]
