"""What must fit between a host and its data, found before anything runs."""

import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

import zoo
from registry import InputError, NameNotFound
from zoo.datasets.transforms import (
    LetterBox,
    MixUp,
    Mosaic,
    RandomAffine,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    Resize,
)
from zoo.engine.evaluate import check_dataset, delivered_size
from zoo.engine.runner import check_disjoint


def host(**arguments):
    return zoo.create_host(
        'encoder_decoder',
        modalities=['rgb', 'depth'],
        num_classes=4,
        in_chans={'rgb': 3, 'depth': 1},
        encoder='test_resnet',
        **arguments,
    )


def data(**arguments):
    return SimpleNamespace(**{'modalities': ('rgb', 'depth'), 'transforms': [], **arguments})


@pytest.mark.parametrize(
    ('transforms', 'size'),
    [
        ([], (50, 64)),
        ([Resize((32, 64))], (32, 64)),
        ([Resize(70), RandomCrop((32, 48)), RandomFlip()], (32, 48)),
        ([Resize(64), RandomRotation(10, canvas=0.8)], None),
        ([Resize(64), lambda sample: sample], (64, 64)),
        ([LetterBox((32, 96))], (32, 96)),
        ([LetterBox(64), RandomAffine()], (64, 64)),
        ([Mosaic(64), RandomAffine((32, 96)), RandomFlip(), MixUp()], (32, 96)),
        ([Mosaic(64), RandomAffine()], None),
    ],
)
def test_the_delivered_size_is_that_of_the_last_transform_that_says_one(transforms, size):
    assert delivered_size(data(size=(50, 64), transforms=transforms)) == size


def test_sizes_that_the_host_can_not_take_are_found_before_training():
    with pytest.raises(InputError, match=r'val_dataloader: images of 50x64.*multiples of 32.*pad_to=32'):
        check_dataset(host(), data(size=(50, 64)), 'val_dataloader')
    check_dataset(host(pad_to=32), data(size=(50, 64)), 'val_dataloader')
    check_dataset(host(), data(size=(64, 96)), 'val_dataloader')
    check_dataset(host(), data(), 'val_dataloader')


def test_raw_data_without_a_mark_for_its_holes_are_spoken_of():
    raw = data(invalid={'depth': 0})
    with pytest.warns(UserWarning, match=r'depth is 0 where nothing was measured.*invalid=dict\(depth=0\)'):
        check_dataset(host(), raw, 'train_dataloader')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_dataset(host(data_preprocessor={'invalid': {'depth': 0}}), raw, 'train_dataloader')
        check_dataset(host(), data(), 'train_dataloader')


def test_a_mistyped_modality_of_the_preprocessor_is_found():
    with pytest.raises(NameNotFound, match='dpth'):
        check_dataset(host(data_preprocessor={'invalid': {'dpth': 0}}), data(), 'train_dataloader')


def test_training_samples_can_not_validate():
    training = SimpleNamespace(list='train.txt', names=['0003', '0004'])
    check_disjoint(training, SimpleNamespace(list='train.txt', names=['0005']))
    check_disjoint(training, SimpleNamespace(list='test.txt', names=['0003']))
    check_disjoint(SimpleNamespace(), SimpleNamespace())
    check_disjoint(SimpleNamespace(names=['0003']), SimpleNamespace(names=['0003']))  # of nobody knows which list
    with pytest.raises(InputError, match=r"1 samples of train.txt .*such as '0004'.*val_fraction"):
        check_disjoint(training, SimpleNamespace(list='train.txt', names=['0004', '0005']))


TASKS = {'cells': 5, 'skin': 7}


@pytest.mark.parametrize(
    ('delivered', 'known', 'message'),
    [
        (5, 4, 'train_dataloader: the data set has 5 classes, the host num_classes=4'),
        (TASKS, {'cells': 5, 'skin': 6}, 'train_dataloader, task skin: the data set has 7 classes, the host num_class'),
        ({'cells': 5}, TASKS, r"No task \(of the host, in train_dataloader\) named 'skin'"),
        (TASKS, 7, r"the data set has num_classes=\{'cells': 5, 'skin': 7\}, the host 7: only one has tasks"),
        (5, TASKS, 'only one has tasks'),
        (TASKS, TASKS, ''),
        (TASKS, {'skin': 8}, ''),
    ],
)
def test_classes_that_the_host_does_not_have_are_found_before_training_for_each_task(delivered, known, message):
    several = host()
    several.num_classes = known
    expected = pytest.raises((InputError, NameNotFound), match=message) if message else nullcontext()
    with expected:
        check_dataset(several, data(num_classes=delivered), 'train_dataloader')
