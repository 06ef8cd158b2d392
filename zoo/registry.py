"""The registries under the name that mmengine imports for the scope ``zoo``."""

from registry import *  # noqa: F403
from registry import __all__  # noqa: F401
