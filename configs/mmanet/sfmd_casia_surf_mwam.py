"""SF-MD on CASIA-SURF with MWAM on the losses of light auxiliary heads and on the gradients; a tenth of the rate every
30 epochs, as the MWAM paper says."""

_base_ = './sfmd_casia_surf.py'
model = dict(aux_heads=True)
plugins = [dict(type='MWAM', mode='hybrid'), dict(type='ModalityDropout', mode='subsets')]
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[30, 60, 90], gamma=0.1, by_epoch=True),
]
