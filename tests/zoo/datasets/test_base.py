"""The base class of all data sets: choice of modalities, transforms, and the checks of a sample."""

import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from registry import DATASETS, TRANSFORMS, InputError, NameNotFound
from zoo.datasets import IGNORE, MultimodalDataset


class Pairs(MultimodalDataset):
    """Two modalities of 4 x 6 pixels; a test may put its own sample in."""

    all_modalities = ('rgb', 'depth')
    all_channels: ClassVar = {'rgb': 3, 'depth': 1}
    classes = ('a', 'b')

    def __len__(self):
        return 3

    def load(self, index):
        return good(index)


def good(index=0, **changes):
    inputs = {'rgb': torch.zeros(3, 4, 6, dtype=torch.uint8), 'depth': torch.zeros(1, 4, 6)}
    sample = {'inputs': inputs, 'present': torch.tensor([True, True]), 'target': torch.tensor(index % 2)}
    return {**sample, **changes}


def test_a_subset_of_the_modalities_keeps_the_order_given():
    data = Pairs(modalities=['depth', 'rgb'])
    assert data.modalities == ('depth', 'rgb')
    assert list(data.channels.items()) == [('depth', 1), ('rgb', 3)]
    assert Pairs(modalities='depth').modalities == ('depth',)
    assert Pairs().modalities == ('rgb', 'depth')


@pytest.mark.parametrize(
    ('given', 'error', 'message'),
    [
        (['rgb', 'dept'], NameNotFound, "No modality of Pairs named 'dept'. Did you mean 'depth'"),
        (['rgb', 'rgb'], InputError, 'a modality twice'),
        ([], InputError, 'at least one modality of: rgb, depth'),
    ],
)
def test_a_wrong_choice_of_modalities_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        Pairs(modalities=given)


def test_transforms_apply_in_order_whether_functions_or_configs():
    def brighten(sample):
        return {**sample, 'inputs': {m: x + 1 for m, x in sample['inputs'].items()}}

    data = Pairs(transforms=[dict(type='Resize', size=(8, 10)), brighten])
    sample = data[0]
    assert sample['inputs']['rgb'].shape == (3, 8, 10)
    assert sample['inputs']['rgb'].unique().tolist() == [1]


def test_transforms_given_without_a_list_or_unknown_are_refused():
    with pytest.raises(InputError, match='transforms is a list'):
        Pairs(transforms=dict(type='Resize', size=4))
    with pytest.raises(NameNotFound, match='Rezise'):
        Pairs(transforms=[dict(type='Rezise', size=4)])
    assert 'Resize' in TRANSFORMS.module_dict


@pytest.mark.parametrize(
    ('config', 'key', 'name'),
    [
        (dict(type='LetterBox', size=8, fill=dict(infrared=0)), 'fill', 'infrared'),
        (dict(type='Resize', size=8, nearest='dept'), 'nearest', 'dept'),
        (dict(type='RandomHSV', modalities='visible'), 'modalities', 'visible'),
        (dict(type='FrequencyFilter', size=3, kind='blur_low', modalities=['rgb', 'ir']), 'modalities', 'ir'),
    ],
)
def test_a_transform_for_a_modality_that_there_is_not_is_refused(config, key, name):
    message = rf"No modality of Pairs \(in {key} of {config['type']}\) named '{name}'\. .*rgb"
    with pytest.raises(NameNotFound, match=message):
        Pairs(transforms=[config])


def test_a_transform_may_name_a_modality_that_is_not_delivered_now():
    data = Pairs('rgb', transforms=[dict(type='LetterBox', size=8, fill=dict(depth=0), nearest=['depth']), 'RandomHSV'])
    assert data[0]['inputs']['rgb'].shape == (3, 8, 8)


def test_there_are_no_annotations_to_check_by_default():
    class Unread(Pairs):
        def load(self, index):
            raise AssertionError

    assert Unread().check_annotations() is None


def test_a_negative_index_counts_from_the_end_and_iteration_ends():
    data = Pairs()
    assert len(list(data)) == 3
    assert data[-2]['target'] == 1
    with pytest.raises(IndexError, match='3 samples, no index 3'):
        data[3]
    with pytest.raises(IndexError):
        data[-4]


class Talk(Pairs):
    """Two pictures, and sound of a size of its own."""

    all_modalities = ('sound', 'rgb', 'depth')
    all_channels: ClassVar = {'sound': 1, 'rgb': 3, 'depth': 1}
    apart = ('sound',)

    def load(self, index):
        inputs = {'sound': torch.rand(1, 9, 31), **good()['inputs']}
        if index == 1:
            inputs = {'sound': inputs['sound']}
        return good(index, inputs=inputs, present=torch.tensor([True, index != 1, index != 1]))


def test_what_is_no_picture_keeps_its_size_and_is_not_moved():
    data = Talk(transforms=['RandomFlip', dict(type='Resize', size=(8, 10)), dict(type='LetterBox', size=(12, 14))])
    assert {m: tuple(x.shape) for m, x in data[0]['inputs'].items()} == {
        'sound': (1, 9, 31),
        'rgb': (3, 12, 14),
        'depth': (1, 12, 14),
    }
    assert list(data[1]['inputs']) == ['sound']
    turned = DATASETS.build(dict(type='AllViews', dataset=Talk()))
    assert len(turned) == 12
    assert all(s['inputs']['sound'].shape == (1, 9, 31) for s in turned)
    with pytest.raises(InputError, match=r'sound has the shape \(1, 9\), expected \(1, H, W\)'):
        data.check_sample(Talk().load(0) | {'inputs': {**data[0]['inputs'], 'sound': torch.zeros(1, 9)}}, 'here')


class Clips(Pairs):
    """Two frames of each modality."""

    frames = 2

    def load(self, index):
        frame = torch.arange(24.0).view(4, 6)
        return good(index, inputs={'rgb': frame.byte().expand(3, 2, 4, 6), 'depth': frame.expand(1, 2, 4, 6)})


@pytest.mark.parametrize(
    'transform',
    [
        dict(type='Resize', size=(5, 7)),
        dict(type='RandomResizedCrop', size=(5, 7)),
        dict(type='RandomFlip', p=1),
        dict(type='LetterBox', size=(5, 7)),
        dict(type='RandomAffine', size=(5, 7), degrees=20),
        dict(type='RandomView', views=['rotated', 'blurred']),
    ],
    ids=lambda t: t['type'],
)
def test_all_frames_of_a_sample_are_moved_alike(transform):
    inputs = Clips(transforms=[transform])[0]['inputs']
    assert inputs['rgb'].shape[:2] == (3, 2)
    assert inputs['rgb'].shape[1:] == inputs['depth'].shape[1:]
    for x in inputs.values():
        assert torch.equal(x[:, 0], x[:, 1])
    with pytest.raises(InputError, match=r'rgb has the shape \(3, 4, 6\), expected \(3, D, H, W\)'):
        Clips().check_sample(good(), 'here')


def test_metainfo_names_classes_and_modalities():
    assert Pairs('depth').metainfo == {'classes': ('a', 'b'), 'modalities': ('depth',)}
    assert Pairs().num_classes == 2


def _with(modality, value):
    return good(inputs={**good()['inputs'], modality: value})


def _own(modality, *rows, label=0):
    sets = [torch.tensor(r, dtype=torch.float32).view(-1, 4) for r in ((), rows)]
    whole, own = ({'boxes': b, 'labels': torch.full((len(b),), label)} for b in sets)
    return good(target={**whole, 'own': {modality: own}})


NAN = torch.zeros(1, 4, 6)
NAN[0, 1, 2] = torch.nan
INF = torch.zeros(1, 4, 6)
INF[0, 1, 2:4] = torch.inf


@pytest.mark.parametrize(
    ('sample', 'message'),
    [
        (good(present=torch.tensor([False, False])), r'here: none of its modalities \(rgb, depth\) is present'),
        (good(inputs={'rgb': torch.zeros(3, 4, 6)}), 'here: depth is marked as present but has no tensor'),
        (_with('rgb', torch.zeros(1, 4, 6)), r'here: rgb has the shape \(1, 4, 6\), expected \(3, H, W\)'),
        (_with('rgb', torch.zeros(3, 4)), r'here: rgb has the shape \(3, 4\)'),
        (_with('rgb', torch.zeros(3, 0, 6)), r'here: rgb has the shape \(3, 0, 6\)'),
        (_with('depth', NAN), 'here: depth holds NaN or Inf in 1 of 24'),
        (_with('depth', INF), 'here: depth holds NaN or Inf in 2 of 24'),
        (_with('rgb', torch.zeros(3, 6, 4)), r'here: the modalities differ in size \(H x W\): rgb 6x4, depth 4x6'),
        (good(target=torch.tensor(2)), r'here: label 2 is out of range, expected 0\.\.1'),
        (good(target=torch.tensor(-1)), 'here: label -1 is out of range'),
        (good(target=torch.tensor(IGNORE)), 'here: label 255 is out of range'),
        (good(target=torch.zeros(6, 4).long()), r'here: the mask has the size \(6, 4\), its image \(4, 6\)'),
        (good(target=torch.zeros(6, 4).long(), info={'mask_size': (8, 12)}), r'the mask has the size \(6, 4\)'),
        (good(target=torch.full((4, 6), 7)), 'here: label 7 is out of range'),
        (good(target=torch.tensor([[7, IGNORE, 0, 0, 0, 0]]).expand(4, 6)), 'here: label 7 is out of range'),
        (good(target={'boxes': torch.zeros(1, 3), 'labels': torch.zeros(1).long()}), r'boxes have the shape \(1, 3\)'),
        (good(target={'boxes': torch.zeros(2, 4), 'labels': torch.zeros(1).long()}), r'labels \(1,\)'),
        (good(target={'boxes': torch.tensor([[2.0, 1, 2, 3]]), 'labels': torch.tensor([0])}), 'is empty or leaves'),
        (good(target={'boxes': torch.tensor([[0.0, 0, 5, 4.5]]), 'labels': torch.tensor([0])}), 'is empty or leaves'),
        (
            good(target={'boxes': torch.tensor([[0.0, 0, 6, 4]]), 'labels': torch.tensor([2])}),
            'label 2 is out of range',
        ),
        (_own('rgb', [0, 0, 7, 4]), r'here, labels of rgb: the box \[0\.0, 0\.0, 7\.0, 4\.0\].* is empty or leaves'),
        (_own('depth', [0, 0, 6, 4], label=2), 'here, labels of depth: label 2 is out of range'),
        (_own('rgbd', [0, 0, 6, 4]), r"No modality of the own labels of here named 'rgbd'\. Did you mean 'rgb'"),
    ],
)
def test_a_sample_that_no_host_could_use_is_refused_with_its_source(sample, message):
    with pytest.raises((InputError, NameNotFound), match=message) as error:
        Pairs().check_sample(sample, 'here')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'sample',
    [
        good(inputs={'depth': torch.zeros(1, 4, 6)}, present=torch.tensor([False, True])),
        {**_with('rgb', torch.full((3, 9, 9), torch.nan)), 'present': torch.tensor([False, True])},
        _with('depth', torch.full((1, 4, 6), 3e38)),
        good(target=torch.full((4, 6), IGNORE)),
        good(target=torch.zeros(8, 13).long(), info={'mask_size': (8, 13)}),
        good(target={'boxes': torch.zeros(0, 4), 'labels': torch.zeros(0).long()}),
        good(target={'boxes': torch.tensor([[0.0, 0, 6, 4]]), 'labels': torch.tensor([1])}),
        _own('depth', [0, 0, 6, 4], label=1),
        _own('rgb'),
        good(target=torch.tensor(9.5)),
        good(target='a caption'),
    ],
    ids=[
        'absent',
        'absent with NaN',
        'overflowing sum',
        'ignored mask',
        'mask of its own size',
        'no boxes',
        'full box',
        'boxes of one modality',
        'no boxes of one modality',
        'regression',
        'text',
    ],
)
def test_an_unusual_sample_that_is_right_passes(sample):
    Pairs().check_sample(sample, 'here')


def test_nothing_is_said_about_presence_and_the_epoch_is_the_first():
    assert Pairs().presence() is None
    assert Pairs().epoch == 0


def test_a_data_set_with_groups_of_partners_can_be_sent_to_workers():
    class Half(Pairs):
        def presence(self):
            return torch.tensor([[True, True], [True, False], [True, False]])

    data = Half()
    assert [{data._partner(i) for _ in range(40)} for i in range(3)] == [{0}, {1, 2}, {1, 2}]
    sent = pickle.loads(pickle.dumps(data.__dict__))
    assert sent['_groups'][0].tolist() == data._groups[0].tolist()


def test_getitem_checks_and_names_the_index():
    class Broken(Pairs):
        def load(self, index):
            return good(target=torch.tensor(5))

    with pytest.raises(InputError, match=r'Broken\[1\]: label 5'):
        Broken()[1]


def test_inputs_are_contiguous_whatever_a_transform_leaves():
    data = Pairs(transforms=[lambda s: {**s, 'inputs': {m: x.transpose(1, 2) for m, x in s['inputs'].items()}}])
    assert all(x.is_contiguous() and x.shape[1:] == (6, 4) for x in data[0]['inputs'].values())


class Masks(Pairs):
    """The masks of a test."""

    masks: ClassVar = []

    def __len__(self):
        return len(self.masks)

    def load(self, index):
        return {'target': self.masks[index]}


def test_label_counts_are_those_of_a_count_by_hand():
    first = torch.tensor([[0, 0, IGNORE], [1, 0, IGNORE]])
    second = torch.tensor([[1, 1], [1, 1]])
    data = Masks()
    data.masks = [first, second, torch.full((3, 3), IGNORE)]
    data.classes = ('a', 'b', 'c')
    pixels, of_images = data.label_counts()
    assert pixels.tolist() == [3, 5, 0]
    assert of_images.tolist() == [6, 10, 0]  # ignored pixels count as pixels of their image
    assert {pixels.dtype, of_images.dtype} == {torch.int64}


def test_single_classes_are_counted_too():
    pixels, of_images = Pairs().label_counts()
    assert pixels.tolist() == of_images.tolist() == [2, 1]


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (torch.tensor([[0, 2]]), r'Masks\[0\]: label 2 is out of range'),
        (torch.tensor([[0, -1]]), r'Masks\[0\]: label -1 is out of range'),
        (torch.zeros(2, 2), r'Masks\[0\]: only classes and masks'),
        ({'boxes': torch.zeros(0, 4), 'labels': torch.zeros(0).long()}, 'only classes and masks'),
        (None, 'only classes and masks'),
    ],
)
def test_targets_that_can_not_be_counted_are_named(target, message):
    data = Masks()
    data.masks = [target]
    with pytest.raises(InputError, match=message):
        data.label_counts()


def test_a_users_file_is_read_by_its_number_of_channels(tmp_path):
    colour, deep, flat = tmp_path / 'colour.png', tmp_path / 'deep.png', tmp_path / 'flat.png'
    Image.new('RGB', (6, 4), (1, 2, 3)).save(colour)
    Image.fromarray(np.full((4, 6), 3000, np.uint16)).save(deep)
    Image.fromarray(np.full((4, 6), 30, np.uint8)).save(flat)
    rgb = Pairs.read_input('rgb', str(colour), root='ignored')
    assert rgb[:, 1, 2].tolist() == [1, 2, 3]
    assert rgb.is_contiguous()
    for file, dtype, value in ((deep, torch.float32, 3000), (flat, torch.uint8, 30)):
        depth = Pairs.read_input('depth', file)
        assert depth.dtype == dtype
        assert torch.equal(depth, torch.full((1, 4, 6), value, dtype=dtype))
    with pytest.raises(InputError, match=r'colour\.png: expected one channel'):
        Pairs.read_input('depth', colour)
    with pytest.raises(InputError, match=r'none\.png: no such file'):
        Pairs.read_input('rgb', tmp_path / 'none.png')
    with pytest.raises(NameNotFound, match=r"No modality of Pairs named 'dept'\. Did you mean 'depth'"):
        Pairs.read_input('dept', colour)


def test_files_of_other_numbers_of_channels_are_refused(tmp_path):
    class Stack(Pairs):
        all_channels: ClassVar = {'rgb': 4, 'depth': 1}

    with pytest.raises(InputError, match=r'x\.png: Stack can not read single files of rgb \(4 channels\)'):
        Stack.read_input('rgb', tmp_path / 'x.png')


class Volumes(MultimodalDataset):
    """Two volumes of one modality with masks."""

    all_modalities = ('flair',)
    all_channels: ClassVar[dict[str, int]] = {'flair': 1}
    spatial_dims = 3
    classes = ('background', 'tumour')

    def __init__(self, shape=(1, 3, 4, 5), mask=(3, 4, 5), label=1, **arguments):
        super().__init__(**arguments)
        self.shape, self.mask, self.label = shape, mask, label

    def __len__(self):
        return 2

    def load(self, index):
        target = torch.zeros(self.mask, dtype=torch.int64)
        target.view(-1)[:2] = torch.tensor([IGNORE, self.label])
        return {'inputs': {'flair': torch.zeros(self.shape)}, 'present': torch.tensor([True]), 'target': target}


def test_volumes_are_delivered_and_counted():
    data = Volumes()
    assert data[1]['inputs']['flair'].shape == (1, 3, 4, 5)
    pixels, of_images = data.label_counts()
    assert pixels.tolist() == [2 * 58, 2]
    assert of_images.tolist() == [120, 120]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'shape': (1, 4, 5), 'mask': (4, 5)}, r'flair has the shape \(1, 4, 5\), expected \(1, D, H, W\)'),
        ({'mask': (3, 4, 6)}, r'the mask has the size \(3, 4, 6\), its image \(3, 4, 5\)'),
        ({'label': 2}, r'label 2 is out of range, expected 0\.\.1'),
    ],
)
def test_volumes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Volumes(**arguments)[0]
