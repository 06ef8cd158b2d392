"""What predictions lean on: the interventions of `Intervention` at test time."""

from .explain import explain_checkpoint
from .explanation import Explanation
from .movement import default_block, movements, region_maps

__all__ = ['Explanation', 'default_block', 'explain_checkpoint', 'movements', 'region_maps']
