"""Precision-recall curves as a table and as a picture."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.metrics import Curves
from zoo.visual import draw_curves, named_curves, write_curves

RECALL = torch.linspace(0, 1, 11)


def curves(count, empty=()):
    """Class k has the precision 1 / (k + 1) everywhere."""
    precision = (1 / torch.arange(1, count + 1).double())[:, None].repeat(1, 11)
    precision[list(empty)] = torch.nan
    return named_curves(Curves(RECALL, precision), [f'class_{k} $x$' for k in range(count)])


def test_classes_without_a_curve_are_left_out_of_the_mean():
    found = curves(3, empty=[1])
    assert list(found.precision) == ['class_0 $x$', 'class_2 $x$']
    assert found.mean == pytest.approx([2 / 3] * 11)


def test_the_table_has_a_line_for_each_class_and_recall_and_a_column_for_each_subset(tmp_path):
    write_curves({'rgb': curves(2, empty=[1]), 'rgb+ir': curves(2)}, tmp_path)
    rows = list(csv.reader((tmp_path / 'pr_curves.csv').open()))
    assert rows[0] == ['class', 'recall', 'rgb', 'rgb+ir']
    assert len(rows) == 1 + 3 * 11
    assert rows[2] == ['mean', '0.10', '1.0000', '0.7500']
    assert rows[-1] == ['class_1 $x$', '1.00', '', '0.5000']


@pytest.mark.parametrize(('classes', 'panels'), [(1, 2), (12, 13), (13, 1)])
def test_the_picture_has_a_panel_for_the_mean_and_for_each_of_a_few_classes(tmp_path, monkeypatch, classes, panels):
    drawn = []
    monkeypatch.setattr('zoo.visual.curves.draw_curves', lambda *a: drawn.append(draw_curves(*a)) or drawn[-1])
    path = write_curves({'rgb': curves(classes), 'ir': curves(classes)}, tmp_path)
    assert len(drawn[0].axes) == panels
    assert drawn[0].axes[0].get_title() == 'mean over the classes'
    for axes in drawn[0].axes:
        assert len(axes.lines) == 2
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB'))
    assert (pixels != 255).any(-1).mean() > 0.02


def test_the_lines_are_the_precisions():
    figure = draw_curves(RECALL.tolist(), [('mean', {'a': [0.5] * 11, 'b': [0.25] * 11})])
    np.testing.assert_allclose([line.get_ydata() for line in figure.axes[0].lines], [[0.5] * 11, [0.25] * 11])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['a', 'b']
