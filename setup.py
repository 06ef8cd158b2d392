"""Packaging of Counterpoise. The lower bounds were installed together and the tests run with them."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+?)'", (HERE / 'zoo' / '__init__.py').read_text(encoding='utf8')).group(1)

REQUIRED = [
    'torch>=2.11',
    'torchvision>=0.26',
    'timm>=1.0.20',
    'onedl-mmengine>=0.10.9',
    'onedl-mmcv>=2.3.6',
    'onedl-mmsegmentation>=1.4.2',
    'segmentation-models-pytorch>=0.5',
    'einops>=0.8',
    'numpy>=2.0',
    'pillow>=10.4',
    'pyyaml>=6',
    'scikit-learn>=1.5',
    'scipy>=1.15',
    'torchmetrics>=1.8',
    'faster-coco-eval>=1.6.5',
    'matplotlib>=3.9',
    'opencv-python>=4.14',  # mmengine imports it without asking for it
    'rich>=13.7',
    'tensorboard>=2.18',
]
YOLO = ['ultralytics>=8.4.190,<8.5']  # AGPL-3.0: see "Licences" in the README; its internals are no stable API
NYUV2 = ['h5py>=3.11']  # only tools/prepare_nyuv2.py reads HDF5
BRATS = ['nibabel>=5']  # only BraTS' official files and tools/prepare_brats.py need it
TEXT = ['transformers>=5.24']  # language models and their tokenizers
DEV = ['pytest>=8', 'pytest-timeout>=2.3', 'pytest-xdist>=3.6', 'ruff==0.17.*', 'pre-commit>=4']

setup(
    name='counterpoise',
    version=VERSION,
    description='A modular zoo of multimodal vision models with balancing plugins',
    long_description=(HERE / 'README.md').read_text(encoding='utf8') if (HERE / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['registry', 'registry.*', 'zoo', 'zoo.*', 'plugins', 'plugins.*']),
    install_requires=REQUIRED,
    extras_require={
        'yolo': YOLO,
        'nyuv2': NYUV2,
        'brats': BRATS,
        'text': TEXT,
        'dev': DEV,
        'all': YOLO + NYUV2 + BRATS + TEXT + DEV,
    },
    classifiers=[
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
