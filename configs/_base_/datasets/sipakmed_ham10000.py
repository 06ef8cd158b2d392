"""Cells of SIPaKMeD (5 classes) below data/sipakmed and skin of HAM10000 (7) below data/ham10000, resized to 128x128,
each divided 80/10/10 by slide and by lesion and augmented as in MAIL, paired at random, in training anew in each epoch.
For another pairing of the test set change test_dataloader.dataset.pairing. See docs/datasets.md."""

_statistics = dict(mean=dict(cells=0, skin=0), std=dict(cells=255, skin=255))  # values in 0..1
_resize = dict(type='Resize', size=128)
_augment = [_resize, dict(type='RandomView')]
_cells = dict(type='ImageFolders', root='data/sipakmed', layout='sipakmed')
_skin = dict(type='ImageFolders', root='data/ham10000', layout='ham10000')
_pairs = dict(type='UnpairedMulti', mode='max')  # all images of both
_loader = dict(batch_size=32, num_workers=8)

train_dataloader = dict(
    **_loader,
    drop_last=True,
    dataset=dict(
        **_pairs,
        repair=True,
        datasets=dict(
            cells=dict(**_cells, split='train', transforms=_augment),
            skin=dict(**_skin, split='train', transforms=_augment),
        ),
    ),
)
val_dataloader = dict(
    **_loader,
    dataset=dict(
        **_pairs,
        datasets=dict(cells=dict(**_cells, split='val'), skin=dict(**_skin, split='val')),
        transforms=[_resize],
    ),
)
test_dataloader = dict(
    **_loader,
    dataset=dict(
        **_pairs,
        datasets=dict(cells=dict(**_cells, split='test'), skin=dict(**_skin, split='test')),
        transforms=[_resize],
    ),
)
val_evaluator = 'Accuracy'
test_evaluator = 'Accuracy'
