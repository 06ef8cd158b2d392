"""mmFormer for four sequences of BraTS, sliding windows of 128 at inference."""

model = dict(
    type='MMFormer',
    modalities=['flair', 't1ce', 't1', 't2'],
    num_classes=4,
    train_size=(128, 128, 128),
    window=(128, 128, 128),
)
