"""M3FD, on tiny files in its layout."""

import numpy as np
import pytest
from PIL import Image

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets.m3fd import divide

pytestmark = pytest.mark.filterwarnings('ignore:.*published are')
NAMES = ('People', 'Car', 'Bus', 'Motorcycle', 'Lamp', 'Truck')
STEMS = [f'{i:05d}' for i in range(10)]


def box(name):
    return (
        f'<object><name>{name}</name><bndbox><xmin>3</xmin><ymin>5</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>'
    )


@pytest.fixture
def root(tmp_path):
    for folder in ('Vis', 'Ir', 'Annotation'):
        (tmp_path / folder).mkdir()
    for i, stem in enumerate(STEMS):
        Image.fromarray(np.full((24, 32, 3), i, np.uint8)).save(tmp_path / 'Vis' / f'{stem}.png')
        Image.fromarray(np.full((24, 32), 100 + i, np.uint8)).save(tmp_path / 'Ir' / f'{stem}.png')
        text = f'<annotation>{"".join(map(box, NAMES))}</annotation>'
        (tmp_path / 'Annotation' / f'{stem}.xml').write_text(text)
    return tmp_path


def load(root, **arguments):
    return DATASETS.build(dict(type='M3FD', root=str(root), **arguments))


def test_a_sample_is_a_pair_with_the_boxes_of_both(root):
    (root / 'meta').mkdir()
    (root / 'meta' / 'val.txt').write_text('00007\n00002\n')
    data = load(root, split='val', list_file='meta/{split}.txt')
    assert data.stems == ['00007', '00002']
    sample = data[0]
    assert sample['inputs']['rgb'].unique().tolist() == [7]
    assert sample['inputs']['ir'].unique().tolist() == [107]
    assert sample['target']['labels'].tolist() == [0, 1, 2, 3, 4, 5]
    assert data.classes == tuple(n.lower() for n in NAMES)
    with pytest.raises(InputError, match=r'meta.test\.txt: no such list'):
        load(root, split='test', list_file='meta/{split}.txt')


def test_lists_may_name_files_and_stems_may_have_dots(root):
    for folder, suffix in (('Vis', 'png'), ('Ir', 'png'), ('Annotation', 'xml')):
        (root / folder / f'00003.{suffix}').rename(root / folder / f'night.v3.{suffix}')
    (root / 'list.txt').write_text('Vis/00007.png\n00002.PNG\nnight.v3\n00007\n')
    assert load(root, list_file='list.txt').stems == ['00007', '00002', 'night.v3']


def test_without_lists_the_splits_divide_all_samples_and_never_change(root):
    with pytest.warns(UserWarning, match='M3FD train in .*: 10 samples, published are 4200'):
        parts = {split: load(root, split=split).stems for split in ('train', 'val', 'test')}
    assert {split: len(stems) for split, stems in parts.items()} == {'train': 7, 'val': 1, 'test': 2}
    assert sorted([*parts['train'], *parts['val'], *parts['test']]) == STEMS
    assert parts['test'] == ['00002', '00006']  # by the hash of the stems: a change would mix up users' splits
    assert load(root, split='test', seed=1).stems != parts['test']
    halves = dict(dev=0.5, rest=0.5)
    assert len(load(root, split='dev', shares=halves)) == 5


def test_modalities_do_not_change_the_division(root):
    (root / 'Ir' / '00002.png').unlink()
    assert load(root, split='test').stems == ['00002', '00006']
    assert load(root, split='test').presence().tolist() == [[True, False], [True, True]]
    assert load(root, split='test', modalities='ir').stems == ['00006']


@pytest.mark.parametrize('shares', [{}, {'train': 0.5}, {'train': 1.5, 'test': -0.5}])
def test_shares_that_do_not_sum_up_are_refused(shares):
    with pytest.raises(InputError, match=r'shares of a division are above 0 and sum up to 1, got \{'):
        divide(STEMS, shares)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(split='dev'), NameNotFound, "No split of M3FD named 'dev'"),
        (dict(root='nowhere'), InputError, 'M3FD: no folder nowhere. The data are at https'),
        (dict(on_bad_box='x'), NameNotFound, "No on_bad_box of M3FD named 'x'"),
    ],
)
def test_a_wrong_argument_is_refused(root, arguments, error, message):
    with pytest.raises(error, match=message):
        load(**{'root': root, **arguments})
