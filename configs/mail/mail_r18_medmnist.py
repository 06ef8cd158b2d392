"""MAIL-RN18 on PathMNIST, one modality; the recipe of the paper as far as it says one."""

_base_ = [
    '../_base_/datasets/medmnist.py',
    '../_base_/schedules/sgd_200e_plateau.py',
    '../_base_/runtime/default.py',
]
model = dict(
    type='MAIL', modalities=['image'], num_classes=9, encoder='mail_rn18', data_preprocessor=_base_._statistics
)
val_evaluator = 'MultiClass'
test_evaluator = 'MultiClass'
