"""ESANet-MD with ResNet-50 on NYU-Depth V2: each sample loses depth, rgb or nothing, with equal chances.

Rows whose modality was dropped still run through its encoder, as published: `encode_on='present'` spares them.
"""

_base_ = './esanet_r34nbt1d_nyuv2.py'
model = dict(type='ESANetMD', encode_on='all', encoder=dict(_delete_=True, model='resnet50', pretrained=True))
plugins = [dict(type='ModalityDropout', mode='subsets')]
