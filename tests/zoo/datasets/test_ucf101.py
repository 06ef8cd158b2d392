"""UCF101 in colour and flow, on tiny files in the folders of two-stream networks."""

import pytest
import torch
from PIL import Image

from registry import DATASETS, InputError
from zoo.datasets import UCF101

LISTS = 'ucfTrainTestlist'


def paint(folder, values, size=(20, 16)):
    folder.mkdir(parents=True, exist_ok=True)
    for i, value in enumerate(values, start=1):
        Image.new('L', size, value).save(folder / f'frame{i:06d}.jpg', quality=95)


@pytest.fixture
def root(tmp_path):
    """Two actions of five groups of two clips each for training, one clip each for testing.

    Frame i is of the grey 10 i, u of 100 + 2 i, v of 101 + 2 i.
    """
    lists = tmp_path / LISTS
    lists.mkdir()
    (lists / 'classInd.txt').write_text('1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n')
    rows = {'train': [], 'test': []}
    for label, (name, spelled) in enumerate((('ApplyEyeMakeup',) * 2, ('HandstandPushups', 'HandStandPushups')), 1):
        for group in range(1, 7):
            for clip in (1, 2):
                test = group == 1
                row = f'{name}/v_{spelled}_g{group:02d}_c{clip:02d}.avi'
                rows['test' if test else 'train'].append(row if test else f'{row} {label}')
                video = f'v_{name}_g{group:02d}_c{clip:02d}'  # the folders spell both words as the class does
                paint(tmp_path / 'jpegs_256' / video, range(0, 70, 10))
                for side, first in (('u', 100), ('v', 101)):
                    paint(tmp_path / 'tvl1_flow' / side / video, range(first, first + 12, 2))
    for split, lines in rows.items():
        (lists / f'{split}list01.txt').write_text('\r\n'.join(lines) + '\r\n')
    return tmp_path


def build(root, **arguments):
    return DATASETS.build({'type': 'UCF101', 'root': str(root), 'size': (8, 12), 'flow_length': 3, **arguments})


def test_a_stack_of_flow_alternates_its_directions_and_lies_at_the_frame(root):
    data = build(root, split='test')
    assert (len(data), data.classes) == (4, ('ApplyEyeMakeup', 'HandstandPushups'))
    assert data.channels == {'rgb': 3, 'flow': 6}
    sample = data[2]
    assert sample['target'] == 1
    assert {m: tuple(x.shape) for m, x in sample['inputs'].items()} == {'rgb': (3, 8, 12), 'flow': (6, 8, 12)}
    assert sample['inputs']['rgb'].float().mean().item() == pytest.approx(30, abs=1)
    assert sample['inputs']['flow'][:, 4, 4].tolist() == [106, 107, 108, 109, 110, 111]


def test_frames_and_stacks_of_several_parts_of_a_clip(root):
    inputs = build(root, split='test', frames=2, flow_length=10)[0]['inputs']
    assert {m: tuple(x.shape) for m, x in inputs.items()} == {'rgb': (3, 2, 8, 12), 'flow': (20, 2, 8, 12)}
    assert inputs['rgb'][0, :, 0, 0].tolist() == pytest.approx([10, 50], abs=2)
    assert inputs['flow'][:, 0, 4, 4].tolist() == [*range(100, 112), *[110, 111] * 4]  # the last field is repeated
    assert UCF101.own_sizes(frames=2, size=(8, 12)) == dict.fromkeys(('rgb', 'flow'), (2, 8, 12))


def test_mirroring_turns_the_horizontal_motion(root):
    data = build(root, modalities='flow')
    seen = set()
    for _ in range(40):
        flow = data[0]['inputs']['flow'][:, 4, 4].tolist()
        assert all(100 < v < 112 for v in flow[1::2])
        seen.add(all(255 - 111 <= u <= 255 - 100 for u in flow[::2]))
        assert all(u < 112 or u > 143 for u in flow[::2])
    assert seen == {True, False}


def test_colour_and_flow_are_cut_alike(root):
    for i in range(1, 8):
        gradient = torch.arange(20).mul(12).to(torch.uint8).expand(16, 20).contiguous().numpy()
        for folder in ('jpegs_256', 'tvl1_flow/u', 'tvl1_flow/v'):
            file = root / folder / 'v_ApplyEyeMakeup_g02_c01' / f'frame{i:06d}.jpg'
            if file.exists():
                Image.fromarray(gradient).save(file, quality=95)
    data = build(root)
    for _ in range(10):
        inputs = data[0]['inputs']
        assert (inputs['rgb'][0].int() - inputs['flow'][1].int()).abs().max() < 5


def test_the_groups_of_a_video_stay_together_in_validation(root):
    train, val = (build(root, split=s, val_fraction=0.2) for s in ('train', 'val'))
    assert (len(train), len(val)) == (16, 4)
    groups = [{name[:-4] for name in part.names} for part in (train, val)]
    assert not groups[0] & groups[1]
    assert val.names[0].startswith('v_ApplyEyeMakeup')
    assert val.names[-1].startswith('v_HandStandPushups')


def test_another_division_brings_its_own_validation(root):
    folder = root / LISTS
    (folder / 'trainlist02.txt').write_text((folder / 'trainlist01.txt').read_text())
    other = dict(train=f'{LISTS}/trainlist02.txt', test=f'{LISTS}/testlist01.txt')
    assert build(root, split='val', val_fraction=0.2, lists=other).list == folder / 'trainlist02.txt'


@pytest.mark.parametrize(
    ('file', 'text', 'message'),
    [
        ('classInd.txt', '1 ApplyEyeMakeup\n3 X', r'classInd\.txt:2: expected "2 class", got \'3 X\''),
        ('classInd.txt', '1 X', r"trainlist01\.txt:1: classInd\.txt has no class 'ApplyEyeMakeup'"),
        ('trainlist01.txt', 'v_x.avi 1', r'trainlist01\.txt:1: expected "class/video\.avi", got'),
        (
            'trainlist01.txt',
            'ApplyEyeMakeup/v_x.avi 1',
            r'list01\.txt:1: v_x has no rgb, expected .*jpegs_256/v_x\. on_m',
        ),
    ],
)
def test_a_wrong_list_is_named(root, file, text, message):
    (root / LISTS / file).write_text(text)
    with pytest.raises(InputError, match=message):
        build(root)


def test_a_flow_with_one_direction_is_missing_and_unequal_ones_are_an_error(root):
    folder = root / 'tvl1_flow' / 'v' / 'v_ApplyEyeMakeup_g01_c01'
    (folder / 'frame000003.jpg').unlink()
    with pytest.raises(InputError, match=r'u/v_\w+_g01_c01 holds 6 fields of flow, .*v/v_\w+_g01_c01 5\.'):
        build(root, split='test')[0]
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r'has no flow, expected .*flow/u/v_A.*_c01 and .*flow/v/v_A.*_c01'):
        build(root, split='test')
    with pytest.warns(UserWarning, match='1 have no flow; 0 are left out'):
        assert build(root, split='test', on_missing='absent')[0]['present'].tolist() == [True, False]


@pytest.mark.parametrize('length', [0, True, 2.5])
def test_a_length_that_is_none_is_refused(root, length):
    with pytest.raises(InputError, match='flow_length is a whole number of at least 1'):
        build(root, flow_length=length)
