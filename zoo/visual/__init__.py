"""Pictures of samples and predictions, drawn with Pillow."""

from .bar_chart import Bar, draw_bars, write_bars
from .curves import NamedCurves, draw_curves, named_curves, write_curves
from .detection import detection
from .fusion import fused_picture, fusion
from .inputs import base_picture, draw_input
from .lines import Line, draw_lines, write_lines
from .palette import palette
from .regions import draw_regions, predicted
from .scene import Panel, Scene
from .sheet import draw_sheet
from .tasks import DRAWERS, classification, draw, draw_scene, drawer, segmentation
from .text import text_picture

__all__ = [
    'DRAWERS',
    'Bar',
    'Line',
    'NamedCurves',
    'Panel',
    'Scene',
    'base_picture',
    'classification',
    'detection',
    'draw',
    'draw_bars',
    'draw_curves',
    'draw_input',
    'draw_lines',
    'draw_regions',
    'draw_scene',
    'draw_sheet',
    'drawer',
    'fused_picture',
    'fusion',
    'named_curves',
    'palette',
    'predicted',
    'segmentation',
    'text_picture',
    'write_bars',
    'write_curves',
    'write_lines',
]
