"""BERT-base on the tweets of CrisisMMD alone: FD-CMKD's recipe for a student or teacher of this modality."""

_base_ = [
    '../_base_/datasets/crisismmd.py',
    '../_base_/schedules/adam_20e_bert.py',
    '../_base_/runtime/default.py',
]
_only = dict(dataset=dict(modalities=['text']))
train_dataloader = _only
val_dataloader = _only
test_dataloader = _only
model = dict(
    type='LateFusion',
    modalities=['text'],
    num_classes=5,
    in_chans=2,
    encoder=dict(type='TextEncoder', model='bert', pretrained='bert-base-uncased'),
)
