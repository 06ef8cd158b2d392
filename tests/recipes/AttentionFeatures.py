"""Stages are those of one modality."""

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location('distillation', Path(__file__).with_name('Distillation.py'))
family = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(family)

BLIND = True
HOSTS = family.HOSTS
ONE = {'teacher_modality': 'rgb', 'student_modality': 'rgb'}
VARIANTS = [{**family.VARIANTS[0], **ONE}]
