"""As `SFMD`, without auxiliary heads of single modalities."""

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location('sfmd', Path(__file__).with_name('SFMD.py'))
sfmd = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sfmd)

shape, target = sfmd.shape, sfmd.target


def arguments(modalities, fusion, needs):
    return {k: v for k, v in sfmd.arguments(modalities, fusion, needs).items() if k != 'aux_heads'}
