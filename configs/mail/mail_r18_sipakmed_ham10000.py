"""MAIL-RN18 on cells and skin, two modalities and two tasks that have nothing to do with each other (docs/mail.md)."""

_base_ = [
    '../_base_/datasets/sipakmed_ham10000.py',
    '../_base_/schedules/sgd_200e_plateau.py',
    '../_base_/runtime/default.py',
]
_metric = dict(_delete_=True, type='MultiTask', metrics=dict(cells='MultiClass', skin='MultiClass'))

model = dict(
    type='MAIL',
    modalities=['cells', 'skin'],
    num_classes=dict(cells=5, skin=7),
    encoder='mail_rn18',
    data_preprocessor=_base_._statistics,
)
val_evaluator = _metric
test_evaluator = _metric
