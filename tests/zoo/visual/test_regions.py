"""Heat over inputs, and bars."""

import numpy as np
import torch

from zoo.visual import Bar, Scene, draw_bars, draw_regions, predicted
from zoo.visual.scene import GREEN


def test_heat_lies_on_the_region_on_one_scale_for_all_modalities():
    inputs = {'rgb': torch.zeros(3, 60, 120, dtype=torch.uint8), 'depth': torch.zeros(1, 60, 120)}
    scene = Scene('x', ('rgb', 'depth', 'ir'), inputs, (60, 120))
    strong, weak = torch.zeros(60, 120), torch.zeros(60, 120)
    strong[:20, 40:80], weak[40:, :] = 4.0, 1.0
    sheet = np.asarray(draw_regions(scene, {'rgb': strong, 'depth': weak}, {'rgb': 0.5, 'depth': 0.1, 'ir': None}, []))
    width, height = scene.panel_size
    left = 14
    top = next(y for y in range(sheet.shape[0]) if (sheet[y, left : left + 40] == 0).all())
    rgb, depth = (sheet[top : top + height, x : x + width].astype(int) for x in (left, left + width + 10))
    assert rgb[5, width // 2, 0] > 100 > rgb[5, 5, 0] == 0
    assert (rgb[height - 5] == 0).all()
    assert 0 < depth[height - 5, 5].sum() < rgb[5, width // 2].sum() * 2
    assert (depth[5] == 0).all()


def test_what_has_no_places_or_no_partner_says_so():
    scene = Scene('x', ('sound',), {'sound': torch.zeros(1, 30)}, (48, 64))
    assert draw_regions(scene, {}, {'sound': None}, []).size[0] > 256


def test_each_of_several_tasks_has_its_prediction_and_its_truth():
    classes = {'age': ('young', 'old'), 'mood': ('glad', 'sad', 'calm')}
    scene = Scene('x', ('rgb',), {}, (48, 64), classes, {'age': torch.tensor(1), 'mood': torch.tensor(-1)})
    logits = {'age': torch.tensor([0.0, 2.0]), 'mood': torch.tensor([0.0, 1.0, 3.0])}
    panels = predicted(scene, 'classification', logits)
    assert [p.title for p in panels] == ['age: prediction', 'age: ground truth', 'mood: prediction']
    assert panels[0].note == 'old, 88 %'
    assert panels[0].colour == GREEN
    assert predicted(scene, 'nothing that is drawn', logits) == []


def test_bars_have_their_intervals_and_empty_ones_say_so():
    figure = draw_bars([Bar('a', 2.0, 1.5, 2.5, 'most'), Bar('$b', None), Bar('c', 1.0)], 'movement')
    (axes,) = figure.axes
    assert [p.get_width() for p in axes.patches] == [2, 0, 1]
    assert [t.get_text() for t in axes.get_yticklabels()] == ['a', '$b', 'c']
    assert [t.get_text().strip() for t in axes.texts] == ['most', 'no sample', '']
    assert axes.get_xlim()[1] > 2.5
