"""The late fusion of ResNets with interventions: masked variants of each batch, and each modality taken away."""

_base_ = '../late_fusion/r18_digitscenes.py'
plugins = [dict(type='Intervention', block=6)]
