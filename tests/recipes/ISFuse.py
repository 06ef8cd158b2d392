"""Narrow maps of odd sizes; images are their own target."""

FUSIONS = ('CFI', 'Sum')
PLUGINS = (
    'Intervention',
    'MWAM',
    'ModalityDropout',
    'StaticWeights',
)  # others ask for predictions or labels


def arguments(modalities, fusion, needs):
    return {'in_chans': {m: shape(m)[0] for m in modalities}, 'dim': 4}


def shape(modality):
    return (3 if modality == 'rgb' else 1, 14, 21)


def target(size, generator):
    return None
