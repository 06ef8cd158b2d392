"""ISFuse on the pairs of MSRS: the published schedule and interventions, five passes for each step."""

_base_ = [
    '../_base_/datasets/msrs.py',
    '../_base_/hosts/isfuse.py',
    '../_base_/schedules/adam_50e.py',
    '../_base_/runtime/default.py',
]
plugins = [
    dict(
        type='Intervention',
        alpha=0.1,
        beta=0.05,
        disks=0.3,
        overlap='pixel',
        necessity='pull',
        detach_clean=False,
        passes='sequential',
        statistics='update',
    )
]
