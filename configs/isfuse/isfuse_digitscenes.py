"""ISFuse on rgb and ir of DigitScenes, for a CPU: half the published width, smaller blocks, ten times the rate."""

_base_ = [
    '../_base_/datasets/digitscenes_fusion.py',
    '../_base_/hosts/isfuse.py',
    '../_base_/schedules/adam_50e.py',
    '../_base_/runtime/default.py',
]
model = dict(
    modalities=['rgb', 'ir'],
    in_chans=dict(_delete_=True, rgb=3, ir=1),
    dim=16,
    data_preprocessor=dict(_delete_=True, std=dict(rgb=255, ir=255)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=6)
plugins = [
    dict(type='Intervention', block=6, necessity='pull', detach_clean=False, passes='sequential', statistics='update')
]
