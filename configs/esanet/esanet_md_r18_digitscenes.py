"""ESANet-MD on narrow ResNet-18 and the masks of DigitScenes, three modalities: some four minutes on one CPU thread."""

_base_ = '../segmentation/fpn_r18_digitscenes.py'
model = dict(
    type='ESANetMD',
    fusion='SEAdd',
    neck=dict(type='PyramidContext', kind='ppm', width=128),
    head=dict(_delete_=True, type='ESANetDecoder', widths=(64, 32, 32), blocks=1),
)
plugins = [dict(type='ModalityDropout', mode='subsets')]
optim_wrapper = dict(optimizer=dict(lr=4e-3))
