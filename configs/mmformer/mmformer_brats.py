"""mmFormer on BraTS 2020 as published, with random subsets of the sequences (docs/volumes.md)."""

_base_ = [
    '../_base_/datasets/brats.py',
    '../_base_/hosts/mmformer.py',
    '../_base_/schedules/adam_poly_1000e.py',
    '../_base_/runtime/default.py',
]
model = dict(preset='official')
train_dataloader = dict(
    dataset=dict(
        transforms=[
            dict(type='VolumeCrop', size=128),
            dict(type='VolumeRotation', degrees=10),
            dict(type='IntensityShift', scale=(0.9, 1.1), shift=(-0.1, 0.1), per_slice=True),
            dict(type='VolumeFlip', p=0.5),
        ]
    )
)
plugins = [dict(type='ModalityDropout', mode='subsets')]
