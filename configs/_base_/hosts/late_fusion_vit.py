"""One small ViT (8x8 patches, 4 layers, width 96) for each modality, attention over modality tokens, a linear head."""

_modalities = ['rgb', 'depth', 'ir']

model = dict(
    type='LateFusion',
    modalities=_modalities,
    num_classes=10,
    in_chans=dict(rgb=3, depth=1, ir=1),
    encoder=dict(
        type='TimmEncoder', model='vit_tiny_patch16_224', img_size=48, patch_size=8, embed_dim=96, depth=4, num_heads=3
    ),
    fusion=dict(type='Attention'),
    data_preprocessor=dict(mean=dict.fromkeys(_modalities, 127.5), std=dict.fromkeys(_modalities, 128.0)),
)
