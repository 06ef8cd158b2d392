"""DigitScenes: the same scenes each time, splits apart, a cache that heals itself."""

import hashlib
import inspect
import os
import pickle
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import DigitScenes, digit_scenes
from zoo.datasets.digit_scenes import SPLITS, split_digits

RECORDED = {'rgb': 70.4049, 'depth': 112.2063, 'ir': 102.1188}


def fingerprint(data):
    digest = hashlib.sha256()
    for sample in data:
        for x in sample['inputs'].values():
            digest.update(x.numpy().tobytes())
        digest.update(sample['target'].numpy().tobytes())
    return digest.hexdigest()


def fingerprint_of_new(root):
    return fingerprint(DigitScenes('val', size=24, root=root))


def test_splits_cover_every_digit_once():
    parts = [split_digits(s)[0].reshape(-1, 64) for s in SPLITS]
    assert [len(p) for p in parts] == [1200, 260, 337]
    theirs = load_digits().images.reshape(-1, 64)
    assert sorted(map(tuple, np.concatenate(parts))) == sorted(map(tuple, theirs))


def test_digits_of_two_splits_have_different_source_indices_and_all_classes():
    source = {split: {i * 1000 % 1797 for i in range(*SPLITS[split])} for split in SPLITS}
    assert not source['train'] & source['val'] | source['train'] & source['test'] | source['val'] & source['test']
    for split in SPLITS:
        counts = np.bincount(split_digits(split)[1], minlength=10)
        assert counts.min() > 0.07 * counts.sum()


def test_labels_are_those_of_the_digits_shown(cache):
    data = DigitScenes('val', size=24, per_digit=2, root=cache)
    theirs = load_digits().target[[i * 1000 % 1797 for i in range(*SPLITS['val'])]]
    ours = [int(data[i]['target']) for i in range(len(data))]
    assert ours == [*theirs, *theirs]


@pytest.mark.parametrize('size', [24, 37, (24, 40), (56, 32)])
def test_samples_have_the_promised_types_and_sizes(cache, size):
    h, w = (size, size) if isinstance(size, int) else size
    data = DigitScenes('val', size=size, root=cache)
    assert len(data) == 260
    sample = data[3]
    assert {m: (x.dtype, tuple(x.shape)) for m, x in sample['inputs'].items()} == {
        'rgb': (torch.uint8, (3, h, w)),
        'depth': (torch.uint8, (1, h, w)),
        'ir': (torch.uint8, (1, h, w)),
    }
    assert sample['present'].tolist() == [True, True, True]
    assert sample['target'].dtype == torch.int64
    assert sample['target'].shape == ()


@pytest.mark.parametrize('size', [24, (40, 64)])
@pytest.mark.parametrize('max_digits', [1, 3, 4])
def test_mask_and_boxes_describe_the_same_digits(cache, size, max_digits):
    masks = DigitScenes('val', 'mask', size=size, max_digits=max_digits, root=cache)
    boxes = DigitScenes('val', 'box', size=size, max_digits=max_digits, root=cache)
    assert masks.path == boxes.path  # one file serves both
    assert (masks.num_classes, boxes.num_classes) == (11, 10)
    number = set()
    for i in range(len(masks)):  # __getitem__ itself checks that every box has an area and lies in the image
        mask, target = masks[i]['target'], boxes[i]['target']
        assert set(mask.unique().tolist()) - {0} == {k + 1 for k in target['labels'].tolist()}
        covered = torch.zeros_like(mask)
        for x1, y1, x2, y2 in target['boxes'].long().tolist():
            covered[y1:y2, x1:x2] = 1
        assert not (mask * (1 - covered)).any()
        number.add(len(target['labels']))
    assert number == set(range(1, max_digits + 1))


def test_depth_stands_out_exactly_where_the_mask_is(cache):
    clear = dict(depth_noise=0, depth_relief=(100, 100))
    data = DigitScenes('val', 'mask', size=32, max_digits=1, difficulty=clear, root=cache)
    higher = 0
    for i in range(50):
        sample = data[i]
        ink, depth = sample['target'] > 0, sample['inputs']['depth'][0].float()
        higher += depth[ink].mean() - depth[~ink].mean() > 50
    assert higher == 50


def test_scenes_drawn_in_another_process_are_the_same_bit_for_bit(tmp_path, cache, start):
    code = f"""
import hashlib, sys
from zoo.datasets import DigitScenes
{inspect.getsource(fingerprint)}
print(fingerprint(DigitScenes('val', size=24, root=sys.argv[1])))
"""
    (tmp_path / 'draw.py').write_text(code)
    (there,) = start([tmp_path / 'draw.py', tmp_path], cwd=tmp_path)
    assert there.stdout.strip() == fingerprint_of_new(cache), there.stderr


def test_scenes_are_those_of_this_version_of_the_generator(cache):
    # means recorded when GENERATOR was 1; whoever changes what is drawn counts it up and records them anew
    assert digit_scenes.GENERATOR == 1
    sample = DigitScenes('val', size=(24, 40), root=cache)[11]
    means = {m: x.float().mean().item() for m, x in sample['inputs'].items()}
    assert means == pytest.approx(RECORDED, abs=0.02)


def test_a_scene_does_not_depend_on_how_many_there_are(cache):
    few, many = (DigitScenes('val', size=24, per_digit=n, root=cache) for n in (1, 2))
    assert len(many) == 2 * len(few)
    for i in (0, 100, 259):
        assert torch.equal(few[i]['inputs']['rgb'], many[i]['inputs']['rgb'])
    assert int(few[5]['target']) == int(many[265]['target'])
    assert not torch.equal(many[5]['inputs']['rgb'], many[265]['inputs']['rgb'])


def test_seed_and_difficulty_change_the_scenes_but_not_the_labels(cache):
    base = DigitScenes('val', size=24, root=cache)
    for other in (
        DigitScenes('val', size=24, seed=1, root=cache),
        DigitScenes('val', size=24, difficulty=dict(ir_noise=40.0), root=cache),
    ):
        assert other.path != base.path
        assert not torch.equal(other[0]['inputs']['ir'], base[0]['inputs']['ir'])
        assert [int(a['target']) for a in other] == [int(a['target']) for a in base]


def test_the_default_written_out_uses_the_same_file(cache):
    base = DigitScenes('val', size=24, root=cache)
    same = DigitScenes('val', size=[24, 24], max_digits=1, difficulty=dict(ir_noise=10), root=cache)
    assert same.path == base.path


def test_modalities_in_another_order_share_the_file(cache):
    data = DigitScenes('val', modalities=['ir', 'rgb'], size=24, root=cache)
    full = DigitScenes('val', size=24, root=cache)
    assert data.path == full.path
    assert list(data[0]['inputs']) == ['ir', 'rgb']
    assert data[0]['present'].shape == (2,)
    assert torch.equal(data[0]['inputs']['ir'], full[0]['inputs']['ir'])


def test_samples_own_their_memory(cache):
    data = DigitScenes('val', size=24, root=cache)
    sample = data[0]
    before = sample['inputs']['rgb'].clone()
    sample['inputs']['rgb'].zero_()
    assert torch.equal(data[0]['inputs']['rgb'], before)


def test_the_second_construction_reads_the_file_and_draws_nothing(tmp_path, monkeypatch):
    first = DigitScenes('val', size=24, root=tmp_path)
    stamp = first.path.stat().st_mtime_ns

    def refuse(*arguments, **named):
        raise AssertionError('drawn again')

    monkeypatch.setattr('zoo.datasets.digit_scenes.render', refuse)
    assert DigitScenes('val', size=24, root=tmp_path).path.stat().st_mtime_ns == stamp


@pytest.mark.parametrize('damage', ['truncated', 'one bit', 'empty', 'another array'])
def test_a_damaged_cache_is_drawn_again(tmp_path, damage):
    data = DigitScenes('val', size=24, root=tmp_path)
    whole = data.path.read_bytes()
    if damage == 'another array':
        with open(data.path, 'wb') as file:
            np.save(file, np.arange(3))
    else:
        flipped = whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:]
        data.path.write_bytes({'truncated': whole[: len(whole) // 2], 'one bit': flipped, 'empty': b''}[damage])
    assert DigitScenes('val', size=24, root=tmp_path).path.read_bytes() == whole


def test_writers_that_race_for_the_cache_all_get_it_whole(tmp_path, cache):
    with ThreadPool(4) as pool:
        prints = pool.map(fingerprint_of_new, [tmp_path] * 4, chunksize=1)
    assert set(prints) == {fingerprint_of_new(cache)}
    assert len(os.listdir(tmp_path)) == 1


def test_workers_deliver_what_the_main_process_does(cache):
    data = DigitScenes('val', size=24, root=cache)
    data[0]  # the parent has the file open before it starts them
    loader = DataLoader(data, batch_size=65, num_workers=2)
    alone = DataLoader(data, batch_size=65)
    for ours, theirs in zip(loader, alone, strict=True):
        assert torch.equal(ours['inputs']['rgb'], theirs['inputs']['rgb'])
        assert torch.equal(ours['target'], theirs['target'])


def test_a_pickled_data_set_is_small_and_works(cache):
    data = DigitScenes('val', size=24, root=cache)
    data[0]
    pickled = pickle.dumps(data)
    assert len(pickled) < 5000
    assert torch.equal(pickle.loads(pickled)[7]['inputs']['ir'], data[7]['inputs']['ir'])


def test_the_variable_names_the_folder_when_root_is_not_given(tmp_path, monkeypatch):
    monkeypatch.setenv('COUNTERPOISE_CACHE', str(tmp_path / 'here'))
    assert DigitScenes('val', size=24).path.parent == tmp_path / 'here'


def test_depth_has_no_exactly_flat_patches(cache):
    depth = torch.stack([s['inputs']['depth'] for s in DigitScenes('val', size=48, root=cache)]).float()
    patches = depth.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    assert (patches.amax(-1) > patches.amin(-1)).all()


def test_transforms_move_the_mask_with_the_image(cache):
    plain = DigitScenes('val', 'mask', size=(24, 40), root=cache)
    flipped = DigitScenes('val', 'mask', size=(24, 40), root=cache, transforms=[dict(type='RandomFlip', p=1.0)])
    assert torch.equal(flipped[2]['target'], plain[2]['target'].flip(1))
    assert torch.equal(flipped[2]['inputs']['rgb'], plain[2]['inputs']['rgb'].flip(2))


def test_scenes_to_fuse_are_those_with_masks_and_have_no_target(cache):
    fused = DigitScenes('val', 'fusion', ['rgb', 'ir'], size=(24, 40), root=cache)
    masks = DigitScenes('val', 'mask', size=(24, 40), root=cache)
    assert fused[2]['target'] is None
    assert torch.equal(fused[2]['inputs']['ir'], masks[2]['inputs']['ir'])
    assert fused.classes == ()


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(split='trian'), NameNotFound, "No split of DigitScenes named 'trian'. Did you mean 'train'"),
        (dict(task='boxes'), NameNotFound, "No task of DigitScenes named 'boxes'. Did you mean 'box'"),
        (dict(modalities=['rgb', 'infrared']), NameNotFound, "No modality of DigitScenes named 'infrared'"),
        (dict(size=23), InputError, 'each at least 24, got 23'),
        (dict(size=(48, 12)), InputError, r'each at least 24, got \(48, 12\)'),
        (dict(size=48.0), InputError, 'A size is an integer'),
        (dict(size='48'), InputError, 'A size is an integer'),
        (dict(size=(48, 48, 3)), InputError, 'A size is an integer'),
        (dict(seed=-1), InputError, 'seed is an integer at least 0, got -1'),
        (dict(seed=True), InputError, 'seed is an integer'),
        (dict(per_digit=0), InputError, 'per_digit is an integer at least 1, got 0'),
        (dict(task='box', max_digits=5), InputError, r'max_digits is an integer in 1\.\.4, got 5'),
        (dict(max_digits=2), InputError, "The task 'class' has one digit in a scene"),
        (dict(difficulty=dict(ir_nose=3)), NameNotFound, "named 'ir_nose'. Did you mean 'ir_noise'"),
        (dict(difficulty=dict(ir_noise=-3)), InputError, 'ir_noise is a number'),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_drawn(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        DATASETS.build(dict(type='DigitScenes', root=str(tmp_path), **arguments))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_can_not_be_written_says_what_to_set(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='COUNTERPOISE_CACHE or root'):
        DigitScenes('val', size=24, root=tmp_path / 'file')
