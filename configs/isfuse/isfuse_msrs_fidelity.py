"""ISFuse on MSRS by fidelity alone: the ablation without interventions."""

_base_ = './isfuse_msrs.py'
plugins = []
