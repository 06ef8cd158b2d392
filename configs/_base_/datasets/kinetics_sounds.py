"""Kinetics-Sounds (audio 257x1004, three frames of 224x224 in training, one in testing) below data/kinetics_sounds;
every tenth clip for training validates, clips with files missing are left out. For log-mel features give all three data
sets shape=(F, T). A host encodes visual with FrameAverage. See docs/datasets.md."""

_statistics = dict(mean=dict(visual=[123.675, 116.28, 103.53]), std=dict(visual=[58.395, 57.12, 57.375]))
_dataset = dict(type='KineticsSounds', root='data/kinetics_sounds', val_fraction=0.1, on_missing='skip')
_loader = dict(batch_size=64, num_workers=8)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train', frames=3))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
