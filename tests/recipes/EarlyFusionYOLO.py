"""As `TwoStreamYOLO`, with one backbone."""

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location('two', Path(__file__).with_name('TwoStreamYOLO.py'))
two = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(two)

REQUIRES = 'ultralytics'
ORDERED = True  # the first layer's weights go by position
REFUSES = ('MWAM', 'RPAN', 'StaticWeights')  # no branch of its own for a modality
shape, target = two.shape, two.target


def arguments(modalities, fusion, needs):
    config = two.arguments(modalities, fusion, needs)
    return {k: config[k] for k in ('num_classes', 'model', 'in_chans')}
