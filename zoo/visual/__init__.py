"""Pictures of samples and predictions, drawn with Pillow."""

from .curves import NamedCurves, draw_curves, named_curves, write_curves
from .detection import detection
from .fusion import fused_picture, fusion
from .inputs import base_picture, draw_input
from .lines import Line, draw_lines, write_lines
from .palette import palette
from .scene import Panel, Scene
from .sheet import draw_sheet
from .tasks import DRAWERS, classification, draw_scene, drawer, segmentation
from .text import text_picture

__all__ = [
    'DRAWERS',
    'Line',
    'NamedCurves',
    'Panel',
    'Scene',
    'base_picture',
    'classification',
    'detection',
    'draw_curves',
    'draw_input',
    'draw_lines',
    'draw_scene',
    'draw_sheet',
    'drawer',
    'fused_picture',
    'fusion',
    'named_curves',
    'palette',
    'segmentation',
    'text_picture',
    'write_curves',
    'write_lines',
]
