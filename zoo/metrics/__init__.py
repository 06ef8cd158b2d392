"""Metrics, and the performance collapse rate."""

from .accuracy import Accuracy
from .collapse import performance_collapse_rate
from .distributed import all_reduce_sum
from .face_anti_spoofing import FaceAntiSpoofing
from .fusion_scores import fusion_scores
from .image_fusion import ImageFusion
from .matching import match_detections
from .mean_ap import MeanAP
from .mean_dice import MeanDice
from .mean_iou import MeanIoU, class_map
from .metric import Curves, Metric
from .multi_class import MultiClass
from .multi_task import MultiTask

__all__ = [
    'Accuracy',
    'Curves',
    'FaceAntiSpoofing',
    'ImageFusion',
    'MeanAP',
    'MeanDice',
    'MeanIoU',
    'Metric',
    'MultiClass',
    'MultiTask',
    'all_reduce_sum',
    'class_map',
    'fusion_scores',
    'match_detections',
    'performance_collapse_rate',
]
