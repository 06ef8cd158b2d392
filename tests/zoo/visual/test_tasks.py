"""Drawing predictions, and the sheet of one sample."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from zoo.datasets import IGNORE
from zoo.visual import DRAWERS, Panel, Scene, classification, draw, draw_scene, draw_sheet, segmentation
from zoo.visual.scene import GREEN, RED
from zoo.visual.tasks import STRENGTH, class_colour

SIZE = (20, 30)
CLASSES = ('background', 'cat', 'dog', 'tree')


def scene(target=None, size=SIZE, classes=CLASSES):
    inputs = {'rgb': torch.full((3, *size), 100, dtype=torch.uint8), 'depth': torch.rand(1, *size)}
    return Scene('x', ('rgb', 'depth'), inputs, size, classes, target)


def logits(labels):
    return F.one_hot(labels, len(CLASSES)).movedim(-1, 0).float()


def mask():
    labels = torch.zeros(SIZE, dtype=torch.int64)
    labels[2:8], labels[10:14, 5:25] = 1, 3
    return labels


def test_classes_are_laid_over_the_picture_and_the_background_is_not():
    panel = segmentation(scene(), logits(mask()))
    image = np.asarray(panel.image)
    assert (image[0] == 100).all()
    for row, index in ((4, 1), (12, 3)):
        expected = (1 - STRENGTH) * 100 + STRENGTH * np.array(class_colour(index))
        np.testing.assert_allclose(image[row, 10], expected, atol=1)
    assert panel.classes == {1, 3}
    assert panel.note == ''


def test_a_class_that_is_no_background_by_name_gets_a_colour():
    assert segmentation(scene(classes=('wall', *CLASSES[1:])), logits(mask())).classes == {0, 1, 3}


def test_the_share_of_right_pixels_leaves_those_without_a_label_out():
    target = mask()
    target[:5] = IGNORE
    target[5, :10] = 2  # 10 of 450 labelled pixels are wrong
    panel = segmentation(scene(target), logits(mask()))
    assert panel.note == f'{100 * 440 / 450:.1f} % of the pixels right'


def test_volumes_show_the_slice_with_most_of_the_target():
    volume = torch.zeros(5, *SIZE, dtype=torch.int64)
    volume[2, 0], volume[3], volume[4, :-1] = 2, mask(), IGNORE
    slices = Scene('x', ('t1',), {'t1': torch.rand(1, 5, *SIZE)}, SIZE, CLASSES, volume)
    flat = Scene('x', ('t1',), {'t1': slices.inputs['t1'][:, 3]}, SIZE, CLASSES, mask())
    guess = logits(volume.where(volume != IGNORE, 0))
    for prediction, plane in ((None, None), (guess, logits(mask()))):
        found, expected = segmentation(slices, prediction), segmentation(flat, plane)
        np.testing.assert_array_equal(found.image, expected.image)
        assert (found.classes, found.note) == ({1, 3}, expected.note)
    assert draw_scene(slices, 'segmentation', {'t1': draw(slices, 'segmentation', guess)}).size[0] > 0


def test_the_truth_shows_pixels_without_a_label_in_black():
    target = mask()
    target[-1] = IGNORE
    panel = segmentation(scene(target), None)
    np.testing.assert_allclose(np.asarray(panel.image)[-1], (1 - STRENGTH) * 100, atol=1)
    assert panel.classes == {1, 3, IGNORE}


def test_small_logits_are_resized_to_the_size_of_the_sample():
    z = torch.randn(4, 5, 6)
    expected = F.interpolate(z[None], SIZE, mode='bilinear', align_corners=False)[0].argmax(0)
    given, full = (np.asarray(segmentation(scene(), p).image) for p in (z, logits(expected)))
    np.testing.assert_array_equal(given, full)
    assert given.shape == (*SIZE, 3)


@pytest.mark.parametrize(('truth', 'colour'), [(2, GREEN), (1, RED)])
def test_the_likeliest_class_is_named_with_its_probability(truth, colour):
    z = torch.tensor([0.0, 0.0, np.log(6.0), 0.0])  # 6 of 9
    panel = classification(scene(torch.tensor(truth)), z)
    assert panel.note == 'dog, 67 %'
    assert panel.colour == colour
    assert panel.image.size == (240, 160)


def test_classes_without_names_are_numbered():
    assert classification(scene(classes=()), torch.tensor([0.0, 9.0])).note == '1, 100 %'


@pytest.mark.parametrize('task', sorted(DRAWERS))
@pytest.mark.parametrize('known', [False, True])
def test_a_sheet_has_the_inputs_the_truth_and_each_subset(task, known):
    box = torch.tensor([[2.0, 3.0, 9.0, 12.0]])
    target, z = {
        'segmentation': (mask(), torch.randn(4, *SIZE)),
        'classification': (torch.tensor(1), torch.randn(4)),
        'detection': ({'boxes': box, 'labels': torch.tensor([1])}, torch.cat([box, torch.tensor([[0.9, 1]])], 1)),
        'fusion': (None, torch.rand(1, *SIZE)),
    }[task]
    given = scene(target if known else None)
    panels = {name: draw(given, task, z) for name in ('rgb', 'depth', 'rgb + depth')}
    sheet = draw_scene(given, task, panels)
    assert sheet.mode == 'RGB'
    assert sheet.width == 2 * 14 + 3 * 240 + 2 * 10  # with the truth or without it: three subsets
    pixels = np.asarray(sheet)
    third_input = pixels[90:200, -200:-20]
    assert (third_input != 255).any() == (known and target is not None)  # fused images have no truth


def test_each_of_several_tasks_has_a_row_of_subsets_and_its_truth_where_it_is_known():
    classes, target = {'age': ('young', 'old'), 'mood': CLASSES}, {'age': torch.tensor(1), 'mood': torch.tensor(-1)}
    several = scene(target, classes=classes)
    logits = {'age': torch.tensor([0.0, 2.0]), 'mood': torch.randn(4)}
    found = draw(several, 'classification', logits)
    assert found['age'].note == 'old, 88 %'
    assert list(draw(several, 'classification', None)) == ['age']
    one = draw_scene(scene(torch.tensor(1)), 'classification', {'rgb': draw(scene(), 'classification', torch.randn(4))})
    sheet = draw_scene(several, 'classification', {'depth': {}, 'rgb': found})
    assert sheet.width == one.width  # two inputs and one truth
    assert sheet.height > one.height + 160


def colours(size, *given):
    return [Panel(str(i), Image.new('RGB', size, c)) for i, c in enumerate(given)]


def count(sheet, colour):
    return int((np.asarray(sheet) == colour).all(-1).sum())


def test_panels_wrap_into_rows_of_the_first_blocks_length():
    seven = [(i, 0, 200) for i in range(7)]
    first = colours((50, 30), *[(0, i, 100) for i in range(4)])
    sheet = draw_sheet('t', [('Inputs', first), ('Predictions', colours((25, 15), *seven))], (50, 30))
    assert sheet.width == 2 * 14 + 4 * 50 + 3 * 10
    for colour in seven:  # magnified without blur
        assert count(sheet, colour) == 50 * 30
    rows, columns = zip(*(np.argwhere((np.asarray(sheet) == c).all(-1))[0] for c in seven))
    assert len(set(rows[:4])) == 1
    assert rows[4] > rows[0] + 30
    assert columns[:3] == columns[4:]


def test_the_legend_fits_into_the_sheet_and_shows_every_colour():
    legend = [(f'a class with a long name {i}', (i + 1, 0, 77)) for i in range(25)]
    sheet = draw_sheet('t', [('Inputs', colours((300, 200), (9, 9, 9)))], (300, 200), legend)
    for _, colour in legend:
        assert count(sheet, colour) > 100


def test_long_captions_are_cut_off_at_the_panel():
    panel = Panel('x' * 200, Image.new('RGB', (100, 80), (1, 2, 3)), 'y' * 200)
    pixels = np.asarray(draw_sheet('z' * 500, [('Inputs', [panel, panel])], (100, 80)))
    assert (pixels[:, 14 + 100 : 14 + 110][45:80] == 255).all()  # the gap between the captions
    assert (pixels[:, -14:] == 255).all()
