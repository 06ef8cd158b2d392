"""Annotation files of boxes: what is read, and which line is to blame."""

import math

import numpy as np
import pytest

from registry import InputError
from zoo.datasets.box_files import Box, clip_boxes, read_xml, read_yolo

SIZE = (20, 40)  # H, W


def boxes(*corners):
    return [Box(f'a.txt:{i}', 0, c) for i, c in enumerate(corners, start=1)]


# ---- YOLO


def test_shares_become_corners_in_pixels(tmp_path):
    file = tmp_path / 'a.txt'
    file.write_text('\n1 0.5 0.5 0.25 0.5\n\n 0.0 0.1 0.2 0.2 0.4 \r\n')
    first, second = read_yolo(file, SIZE)
    assert (first.label, first.where) == (1, f'{file}:2')
    assert first.corners == (15, 5, 25, 15)  # by hand: 40 * (0.5 -+ 0.125), 20 * (0.5 -+ 0.25)
    assert second.label == 0
    assert second.corners == pytest.approx((0, 0, 8, 8))


def test_an_empty_file_has_no_boxes(tmp_path):
    (tmp_path / 'a.txt').write_text('\n')
    assert read_yolo(tmp_path / 'a.txt', SIZE) == []


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('0 20 10 8 4', r'the value 20 is above 1; expected shares of the image \(0\.\.1\), not pixels'),
        ('0 0.5 0.5 0.2 inf', 'the value inf is above 1'),
        ('0 0.5 0.5 0.2', 'expected "class cx cy w h", got \'0 0.5 0.5 0.2\'.'),
        ('0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2', 'oriented boxes and polygons are not read'),
        ('car 0.5 0.5 0.2 0.2', "got 'car 0.5 0.5 0.2 0.2'"),
        ('0.5 0.5 0.5 0.2 0.2', "the class is a whole number, got '0.5'"),
        ('nan 0.5 0.5 0.2 0.2', "the class is a whole number, got 'nan'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    file = tmp_path / 'a.txt'
    file.write_text(f'0 0.5 0.5 0.1 0.1\n{line}\n')
    with pytest.raises(InputError, match=message) as error:
        read_yolo(file, SIZE)
    assert str(error.value).startswith(f'{file}:2: ')


def test_a_value_rounded_above_one_is_fine(tmp_path):
    (tmp_path / 'a.txt').write_text('0 0.5 0.5 1.000001 1\n')
    assert clip_boxes(read_yolo(tmp_path / 'a.txt', SIZE), SIZE)[0].tolist() == [[0, 0, 40, 20]]


# ---- XML


def xml(*objects):
    return f'<annotation><size><width>40</width></size>{"".join(objects)}</annotation>'


BNDBOX = (
    '<object><name> Car </name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>9.5</xmax><ymax>8</ymax></bndbox></object>'
)
POLYGON = (
    '<object><name>bus</name><polygon><x1>7</x1><y1>2</y1><x2>12</x2><y2>6</y2>'
    '<x3>8</x3><y3>10</y3><x4>3</x4><y4>6</y4></polygon></object>'
)


def test_xml_gives_upright_boxes_around_corners(tmp_path):
    file = tmp_path / 'a.xml'
    file.write_text(xml(BNDBOX, POLYGON, '<object><name>van</name><point/></object>'))
    car, bus, van = read_xml(file)
    assert car == (f'{file}: object 1', 'Car', (3, 4, 9.5, 8), '')
    assert bus == (f'{file}: object 2', 'bus', (3, 2, 12, 10), '')
    assert all(map(math.isnan, van.corners))
    assert van.problem == 'it has neither a bndbox nor a polygon'


@pytest.mark.parametrize('spoil', [('<x2>12</x2>', ''), ('<y3>10</y3>', '<y3>nan</y3>'), ('<x4>3</x4>', '<x4/>')])
def test_a_polygon_that_is_not_complete_gives_way_to_a_box(tmp_path, spoil):
    file, polygon = tmp_path / 'a.xml', POLYGON.replace(*spoil)
    box = '<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>'
    file.write_text(xml(polygon.replace('</object>', box)))
    assert read_xml(file) == [(f'{file}: object 1', 'bus', (1, 2, 3, 4), '')]


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        (BNDBOX.replace('<ymax>8</ymax>', ''), 'ymax of its bndbox is a finite number, got None'),
        (BNDBOX.replace('9.5', 'inf'), "xmax of its bndbox is a finite number, got 'inf'"),
        (POLYGON.replace('12', 'x'), "x2 of its polygon is a finite number, got 'x'"),
        ('<object><name>van</name><polygon/></object>', 'x1 of its polygon is a finite number, got None'),
    ],
)
def test_an_object_without_complete_corners_is_a_bad_box_with_its_reason(tmp_path, text, problem):
    file = tmp_path / 'a.xml'
    file.write_text(xml(BNDBOX, text))
    given = read_xml(file)
    assert clip_boxes(given, SIZE, 'drop')[1].tolist() == [0]
    with pytest.raises(InputError, match='on_bad_box') as error:
        clip_boxes(given, SIZE)
    assert str(error.value) == f"{file}: object 2: {problem}; on_bad_box='drop' leaves such boxes out."


def test_a_folder_named_like_a_file_is_named(tmp_path):
    (tmp_path / 'a.x').mkdir()
    for read in (read_xml, lambda file: read_yolo(file, SIZE)):
        with pytest.raises(InputError, match=r'a\.x: can not be read \(.+\)') as error:
            read(tmp_path / 'a.x')
        assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'can not be read as XML'),
        ('<annotation><object>', 'can not be read as XML'),
        (xml(POLYGON, BNDBOX.replace(' Car ', '')), 'object 2: it has no name'),
        ('<?xml version="1.0" encoding="gbk"?><annotation/>', 'can not be read as XML .multi-byte'),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', 'can not be read as XML'),
    ],
)
def test_xml_that_does_not_fit_is_named(tmp_path, text, message):
    file = tmp_path / 'a.xml'
    file.write_text(text)
    with pytest.raises(InputError, match=rf'a\.xml: {message}') as error:
        read_xml(file)
    assert '\n' not in str(error.value)


# ---- clean-up

NAN = float('nan')
BAD = [
    ((41, 2, 45, 9), r'lies outside its image of \(20, 40\) \(H, W\)'),
    ((2, -9, 5, 0), 'lies outside its image'),
    ((5, 5, 5, 9), 'has no width or no height'),
    ((9, 5, 4, 9), 'has no width or no height'),
    ((NAN, 5, 4, 9), 'is not finite'),
    ((1, 5, float('inf'), 9), 'is not finite'),
]


@pytest.mark.parametrize(('corners', 'message'), BAD)
def test_a_bad_box_is_an_error_with_its_line_or_dropped_and_counted(corners, message):
    given = boxes((1, 1, 3, 3), corners, (4, 4, 6, 8))
    with pytest.raises(InputError, match=rf"a\.txt:2: the box \[.*{message}.*; on_bad_box='drop' leaves"):
        clip_boxes(given, SIZE)
    left, kept, bad, hidden = clip_boxes(given, SIZE, 'drop')
    assert left.tolist() == [[1, 1, 3, 3], [4, 4, 6, 8]]
    assert (kept.tolist(), bad, hidden) == ([0, 2], 1, 0)


def test_a_box_partly_outside_is_clipped_and_one_pixel_is_enough():
    left, kept, bad, hidden = clip_boxes(boxes((-5, -5, 4, 3), (39, 19, 60, 60), (7, 8, 8, 9)), SIZE)
    assert left.dtype == np.float32
    assert left.tolist() == [[0, 0, 4, 3], [39, 19, 40, 20], [7, 8, 8, 9]]
    assert (kept.tolist(), bad, hidden) == ([0, 1, 2], 0, 0)


def test_no_boxes_stay_no_boxes():
    left, kept, *counts = clip_boxes([], SIZE)
    assert (left.shape, kept.shape, counts) == ((0, 4), (0,), [0, 0])


def test_a_border_moves_boxes_and_hides_those_that_lie_in_it():
    given = boxes(
        (12, 14, 22, 20),  # inside
        (6, 12, 16, 16),  # 6 of 10 columns left
        (1, 12, 11, 16),  # 1 of 10
        (0, 0, 9, 9),  # in the border alone
        (61, 5, 70, 9),  # beyond the 60 columns of the annotated image
    )
    with pytest.raises(InputError, match=r'a\.txt:5: .* lies outside its image of \(40, 60\)'):
        clip_boxes(given, SIZE, border=10, min_visible=0.3)
    left, kept, bad, hidden = clip_boxes(given, SIZE, 'drop', border=10, min_visible=0.3)
    assert left.tolist() == [[2, 4, 12, 10], [0, 2, 6, 6]]
    assert (kept.tolist(), bad, hidden) == ([0, 1], 1, 2)
    assert clip_boxes(given, SIZE, 'drop', border=10, min_visible=0.1)[1].tolist() == [0, 1, 2]


def test_a_sliver_that_vanishes_in_single_precision_is_bad():
    assert clip_boxes(boxes((39.9999999, 1, 45, 9)), SIZE, 'drop')[2] == 1
