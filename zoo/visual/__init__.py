"""Pictures of samples and predictions, drawn with Pillow."""

from .inputs import base_picture, draw_input
from .palette import palette
from .scene import Panel, Scene
from .sheet import draw_sheet
from .tasks import DRAWERS, classification, draw_scene, drawer, segmentation
from .text import text_picture

__all__ = [
    'DRAWERS',
    'Panel',
    'Scene',
    'base_picture',
    'classification',
    'draw_input',
    'draw_scene',
    'draw_sheet',
    'drawer',
    'palette',
    'segmentation',
    'text_picture',
]
