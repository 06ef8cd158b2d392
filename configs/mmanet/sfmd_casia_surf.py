"""SF-MD for face anti-spoofing on CASIA-SURF: random subsets of the modalities, no other help."""

_base_ = [
    '../_base_/datasets/casia_surf.py',
    '../_base_/hosts/sfmd.py',
    '../_base_/schedules/sgd_casia_surf_mmanet.py',
    '../_base_/runtime/default.py',
]
val_evaluator = 'FaceAntiSpoofing'
test_evaluator = 'FaceAntiSpoofing'
plugins = [dict(type='ModalityDropout', mode='subsets')]
