"""RFNet for four sequences of BraTS, sliding windows of 80 at inference."""

model = dict(
    type='RFNet',
    modalities=['flair', 't1ce', 't1', 't2'],
    num_classes=4,
    window=(80, 80, 80),
)
