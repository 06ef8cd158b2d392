"""ResNet-18 late fusion of two modalities, rgb and depth, on DigitScenes."""

_base_ = './r18_digitscenes.py'
model = dict(modalities=['rgb', 'depth'], in_chans=dict(_delete_=True, rgb=3, depth=1))
