"""The late fusion of ResNets with MWAM on gradients and interventions."""

_base_ = './r18_digitscenes_intervention.py'
plugins = [dict(type='MWAM'), *_base_.plugins]
