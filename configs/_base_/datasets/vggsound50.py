"""The 50 classes of VGGSound in FD-CMKD (audio 257x1004, three frames of 224x224 in training, one in testing) below
data/vggsound50; every tenth clip for training validates, clips with files missing are left out. A host encodes visual
with FrameAverage. See docs/datasets.md."""

_statistics = dict(mean=dict(visual=[123.675, 116.28, 103.53]), std=dict(visual=[58.395, 57.12, 57.375]))
_dataset = dict(type='VGGSound', root='data/vggsound50', val_fraction=0.1)
_loader = dict(batch_size=64, num_workers=8)

train_dataloader = dict(**_loader, drop_last=True, dataset=dict(**_dataset, split='train', frames=3))
val_dataloader = dict(**_loader, dataset=dict(**_dataset, split='val'))
test_dataloader = dict(**_loader, dataset=dict(**_dataset, split='test'))
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
