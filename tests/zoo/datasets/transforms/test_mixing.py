"""Mosaic and MixUp: what comes where, alike in all modalities, and who may mix with whom."""

from typing import ClassVar

import pytest
import torch

from registry import TRANSFORMS, InputError
from zoo.datasets import IGNORE, MultimodalDataset
from zoo.datasets.transforms import Mixing, MixUp, Mosaic
from zoo.engine import build_dataloader


def boxes(*rows):
    return {'boxes': torch.tensor(rows, dtype=torch.float32).view(-1, 4), 'labels': torch.arange(len(rows))}


def flat(value, height=20, width=30, target=None, **changes):
    """A sample of one value in two modalities."""
    inputs = {
        'rgb': torch.full((3, height, width), value, dtype=torch.uint8),
        'ir': torch.full((1, height, width), 1.0 * value),
    }
    return {'inputs': inputs, 'present': torch.tensor([True, True]), 'target': target, **changes}


def from_list(*samples):
    return iter(samples).__next__


def four(**target):
    return [flat(v, **{'target': None, **target}) for v in (10, 20, 30, 40)]


class Painted(MultimodalDataset):
    """One bright box on noise, in all modalities; which of them a sample has, `masks` says."""

    all_modalities = ('rgb', 'ir', 'uv')
    all_channels: ClassVar = {'rgb': 3, 'ir': 1, 'uv': 2}
    classes = ('box', 'other')
    masks: ClassVar = [[1, 1, 1]] * 6

    def __len__(self):
        return len(self.masks)

    def presence(self):
        return torch.tensor(self.masks).bool()

    def load(self, index):
        height, width = 40 + 4 * (index % 3), 64 - 5 * (index % 2)
        box = torch.tensor([8 + 3 * index, 7 + index, 34 + 3 * index, 29 + index])
        plane = torch.randint(0, 20, (1, height, width), generator=torch.Generator().manual_seed(index)).float()
        plane[:, box[1] : box[3], box[0] : box[2]] = 250 - index
        own = {'boxes': box.float()[None], 'labels': torch.tensor([1])}
        rgb = plane.repeat(3, 1, 1).to(torch.uint8).permute(1, 2, 0).contiguous().permute(2, 0, 1)
        inputs = {'rgb': rgb, 'ir': plane, 'uv': plane.repeat(2, 1, 1)}
        return {
            'inputs': {m: x for m, x, here in zip(inputs, inputs.values(), self.masks[index]) if here},
            'present': torch.tensor(self.masks[index]).bool(),
            'target': {'boxes': box.float()[None], 'labels': torch.tensor([0]), 'own': {'ir': own}},
        }


RECIPE = (
    dict(type='Mosaic', size=(48, 64), fill=0),
    dict(type='RandomAffine', size=(48, 64), degrees=3, scale=0.3, shear=1, fill=0),
    dict(type='RandomFlip'),
    dict(type='RandomFlip', direction='vertical'),
)


def loader(seed=0, workers=0, data=None, transforms=RECIPE):
    data = data or Painted(transforms=transforms)
    return build_dataloader({'dataset': data, 'batch_size': 2, 'num_workers': workers}, training=True, seed=seed)


def test_a_painted_box_stays_under_its_box_in_every_modality():
    data, seen = Painted(transforms=RECIPE), 0
    for i in range(60):
        sample = data[i % len(data)]
        ir = sample['inputs']['ir']
        torch.testing.assert_close(sample['inputs']['rgb'].float(), ir.expand(3, -1, -1), atol=3, rtol=0)
        torch.testing.assert_close(sample['inputs']['uv'], ir.expand(2, -1, -1), atol=255 / 32, rtol=0)
        bright = ir[0] > 125
        assert sample['target']['boxes'].shape == sample['target']['own']['ir']['boxes'].shape
        for box in sample['target']['boxes'].round().int().tolist():
            inner = bright[box[1] + 2 : box[3] - 2, box[0] + 2 : box[2] - 2]
            assert inner.float().mean() > 0.9 or not inner.numel()
            seen += inner.numel() > 100
            bright[max(box[1] - 2, 0) : box[3] + 2, max(box[0] - 2, 0) : box[2] + 2] = False
        assert not bright[14:-14, 14:-14].any()  # at the rim are tenths of boxes that were dropped
    assert seen > 60


@pytest.mark.parametrize('size', [(20, 30), (40, 60), (10, 30)])
def test_four_samples_lie_around_one_point(size):
    for _ in range(10):
        first, *others = four()
        mixed = Mosaic(size, fill=0).mix(first, from_list(*others), 0)
        rgb, ir = mixed['inputs']['rgb'], mixed['inputs']['ir']
        assert ir.shape == (1, 2 * size[0], 2 * size[1])
        assert torch.equal(rgb.float(), ir.expand(3, -1, -1))
        factor = min(size[0] / 20, size[1] / 30)
        height, width = round(20 * factor), round(30 * factor)
        lit = (ir[0] == 10).nonzero()
        y, x = (lit.max(0).values + 1).tolist()
        assert size[0] // 2 <= y < 3 * size[0] / 2
        assert size[1] // 2 <= x < 3 * size[1] / 2
        expected = torch.zeros(4 * size[0], 4 * size[1])  # room around the canvas, whose corner is at `size`
        top, left = y + size[0], x + size[1]
        expected[top - height : top, left - width : left] = 10
        expected[top - height : top, left : left + width] = 20
        expected[top : top + height, left - width : left] = 30
        expected[top : top + height, left : left + width] = 40
        assert torch.equal(ir[0], expected[size[0] : 3 * size[0], size[1] : 3 * size[1]])


def test_boxes_and_masks_follow_their_tile():
    mask = torch.zeros(20, 30, dtype=torch.int64)
    mask[5:15, 10:20] = 1
    for _ in range(10):
        first, *others = four(target=mask)
        mixed = Mosaic((20, 30)).mix(first, from_list(*others), 0)['target']
        assert mixed.dtype == torch.int64
        assert mixed.shape == (40, 60)
        assert set(mixed.unique().tolist()) <= {0, 1, IGNORE}
        torch.manual_seed(7)
        masks = Mosaic((20, 30)).mix(first, from_list(*others), 0)['target']
        torch.manual_seed(7)
        first, *others = four(target={**boxes([10, 5, 20, 15]), 'note': 'x'})
        target = Mosaic((20, 30)).mix(first, from_list(*others), 0)['target']
        painted = torch.zeros(40, 60)
        for x1, y1, x2, y2 in target['boxes'].int().tolist():
            painted[y1:y2, x1:x2] = 1
        assert torch.equal(painted == 1, masks == 1)
        assert target['note'] == 'x'


def test_fill_is_grey_or_the_mean_of_all_four():
    mixed = Mosaic((40, 60), fill=None)
    first, *others = (flat(v, 20, 60) for v in (10, 20, 30, 40))
    inputs = mixed.mix(first, from_list(*others), 0)['inputs']
    assert set(inputs['rgb'].unique().tolist()) == {10, 20, 30, 40, 114}
    assert set(inputs['ir'].unique().tolist()) == {10, 20, 25, 30, 40}


def test_it_acts_as_often_as_asked_and_until_its_last_epoch():
    def acts(epoch, **arguments):
        first, *others = four()
        mixed = Mosaic((20, 30), **arguments).mix(first, from_list(*others), epoch)
        assert mixed['inputs']['ir'].shape in ((1, 40, 60), (1, 20, 30))
        return mixed['inputs']['ir'].shape == (1, 40, 60)

    assert 15 < sum(acts(0, p=0.25) for _ in range(120)) < 50
    assert [acts(e, stop_epoch=2) for e in range(4)] == [True, True, False, False]
    assert not acts(0, p=0.0)
    assert acts(10**6)


def test_a_sample_left_alone_is_letterboxed():
    alone = Mosaic((32, 30), p=0, fill=0).mix(flat(9, target=boxes([0, 0, 30, 20])), None, 0)
    assert alone['target']['boxes'].tolist() == [[0, 6, 30, 26]]
    assert (alone['inputs']['ir'][0, 6:26] == 9).all()
    assert alone['inputs']['ir'].sum() == 9 * 600


def test_mixup_weighs_all_modalities_alike_and_keeps_all_boxes():
    first = flat(10, target={**boxes([1, 2, 9, 9]), 'own': {'ir': boxes(), 'rgb': boxes([0, 0, 3, 3])}})
    second = flat(250, target={**boxes([2, 2, 8, 8], [3, 3, 5, 5]), 'own': {'ir': boxes([1, 1, 2, 2]), 'rgb': boxes()}})
    weights = []
    for _ in range(100):
        mixed = MixUp(p=1).mix(first, from_list(second), 0)
        value = mixed['inputs']['ir'].unique()
        assert value.numel() == 1
        assert mixed['inputs']['rgb'].unique().tolist() == [round(value.item())]
        weights.append((250 - value.item()) / 240)
        assert mixed['target']['boxes'].tolist() == [[1, 2, 9, 9], [2, 2, 8, 8], [3, 3, 5, 5]]
        assert mixed['target']['labels'].tolist() == [0, 0, 1]
        assert mixed['target']['own']['ir']['boxes'].tolist() == [[1, 1, 2, 2]]
        assert mixed['target']['own']['rgb']['boxes'].tolist() == [[0, 0, 3, 3]]
    weights = torch.tensor(weights)
    assert abs(weights.mean() - 0.5) < 0.03
    assert 0.04 < weights.std() < 0.09  # of Beta(32, 32): 1 / sqrt(4 * 65) = 0.062
    assert first['inputs']['ir'].unique().tolist() == [10]
    assert MixUp(p=1, stop_epoch=3).mix(first, None, 3) is first
    assert MixUp().mix(first, None, 0) is first


@pytest.mark.parametrize('mixing', [Mosaic((20, 30)), MixUp(p=1)])
def test_a_modality_is_present_only_if_all_parts_have_it(mixing):
    def part(rgb, ir):
        sample = flat(9)
        here = {'rgb': rgb, 'ir': ir}
        sample['inputs'] = {m: x for m, x in sample['inputs'].items() if here[m]}
        return {**sample, 'present': torch.tensor([rgb, ir])}

    mixed = mixing.mix(part(True, True), from_list(*[part(False, True)] * 3), 0)
    assert list(mixed['inputs']) == ['ir']
    assert mixed['present'].tolist() == [False, True]
    left = part(True, False)
    alone = mixing.mix(left, from_list(*[part(False, True)] * 3), 0)  # images that turned out to be unreadable
    assert alone['present'].tolist() == [True, False]
    assert torch.equal(alone['inputs']['rgb'], left['inputs']['rgb'])


@pytest.mark.parametrize('mixing', [Mosaic((20, 30)), MixUp(p=1)])
def test_images_of_8_and_16_bits_do_not_mix(mixing):
    eight = flat(9)
    eight['inputs']['ir'] = eight['inputs']['ir'].byte()
    message = (
        rf"{type(mixing).__name__}: the samples to mix differ in the type of 'ir': float32, uint8\. Files of 8 bits"
    )
    with pytest.raises(InputError, match=message) as error:
        mixing.mix(eight, from_list(*[flat(9)] * 3), 0)
    assert '\n' not in str(error.value)


def test_partners_have_the_same_modalities_and_are_drawn_uniformly():
    data = Painted()
    data.masks = [[1, 1, 1], [0, 1, 0], [1, 1, 1], [0, 1, 1], [0, 1, 0], [1, 1, 1], [0, 1, 0]]
    drawn = {i: torch.bincount(torch.tensor([data._partner(i) for _ in range(300)]), minlength=7) for i in range(7)}
    for i, counts in drawn.items():
        alike = [int(data.masks[j] == data.masks[i]) for j in range(7)]
        assert (counts > 0).int().tolist() == alike
        assert counts[counts > 0].min() > 240 / sum(alike)
    data = Painted(transforms=RECIPE)
    data.masks = [[1, 1, 1], [0, 1, 0], [1, 1, 1], [0, 1, 1], [0, 1, 0]]
    assert [data[i]['present'].tolist() for i in range(5)] == [[bool(v) for v in row] for row in data.masks]


def test_without_presence_all_samples_are_partners():
    class Complete(Painted):
        def presence(self):
            return None

    assert {Complete()._partner(0) for _ in range(100)} == set(range(6))


def test_a_presence_of_another_shape_is_refused():
    data = Painted(modalities=['rgb', 'ir'], transforms=RECIPE)
    with pytest.raises(InputError, match=r'Painted: presence\(\) has the shape \(6, 3\), expected \(6, 2\)'):
        data[0]


def test_a_partner_goes_through_the_transforms_before_and_no_later_ones():
    seen = []

    class Spy(Mixing):
        def mix(self, sample, partner, epoch):
            seen.append((sample['log'], partner()['log'], epoch))
            return {**sample, 'log': sample['log'] + '+'}

    def note(letter):
        return lambda sample: {**sample, 'log': sample.get('log', '') + letter}

    data = Painted(transforms=[note('a'), Spy(), note('b'), Spy(), note('c')])
    data.epoch = 4
    assert data[0]['log'] == 'a+b+c'
    # the first mixing of the sample, the one of its partner within the second, and the second
    assert seen == [('a', 'a', 4), ('a', 'a', 4), ('a+b', 'a+b', 4)]


def test_a_message_names_all_parts():
    class Wrong(Painted):
        def load(self, index):
            sample = super().load(index)
            sample['target']['labels'] += 7 * (index == 1)
            return sample

    data = Wrong(transforms=[dict(type='Mosaic', size=(48, 64))])
    with pytest.raises(InputError, match=r'Wrong\[0\] \(mixed with .*Wrong\[1\].*\): label 7 is out of range'):
        [data[0] for _ in range(30)]


def gathered(batches):
    return [
        (*(x for x in b['inputs'].values()), *b['target']['boxes'], *b['target']['own']['ir']['boxes']) for b in batches
    ]


def test_a_mixed_sample_is_a_function_of_seed_epoch_and_index():
    def epochs(seed, workers, data=None):
        made, found = loader(seed, workers, data), []
        for epoch in range(2):
            made.sampler.set_position(epoch)
            found.append(gathered(made))
        return found

    def same(a, b):
        return all(
            len(x) == len(y) and all(map(torch.equal, x, y)) for e, f in zip(a, b) for x, y in zip(e, f, strict=True)
        )

    alone = epochs(3, 0)
    assert same(alone, epochs(3, 2))
    assert not same(alone, epochs(4, 0))
    assert not same(alone[:1], alone[1:])


@pytest.mark.parametrize('workers', [0, 2])
def test_the_engine_tells_the_epoch_to_the_workers_and_a_resumed_run_goes_on(workers):
    transforms = [dict(type='Mosaic', size=(48, 64), stop_epoch=1)]
    made = loader(0, workers, transforms=transforms)
    sizes = []
    for epoch in range(2):
        made.sampler.set_position(epoch)
        whole = gathered(made)
        sizes.append({tuple(b[0].shape[2:]) for b in whole})
        made.sampler.set_position(epoch, 4)
        (rest,) = gathered(made)
        assert all(map(torch.equal, rest, whole[2]))
    assert sizes == [{(96, 128)}, {(48, 64)}]


def test_boxes_of_one_pixel_and_none_pass_every_step():
    class Few(Painted):
        def load(self, index):
            return {**super().load(index), 'target': boxes([9, 9, 10, 10]) if index else boxes()}

    transforms = [*RECIPE, dict(type='MixUp', p=1.0), dict(type='LetterBox', size=50)]
    for i in range(12):
        target = Few(transforms=transforms)[i % 6]['target']
        assert target['boxes'].shape[1:] == (4,)
        assert len(target['boxes']) == len(target['labels'])
        assert target['boxes'].dtype == torch.float32


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='Mosaic', size=0), 'A size is an integer or a pair'),
        (dict(type='Mosaic', size=8, p=2), r'Mosaic takes a probability p, which must be in 0\.\.1, got 2'),
        (dict(type='Mosaic', size=8, stop_epoch=-1), r'stop_epoch of Mosaic is None or a whole number .* got -1'),
        (dict(type='Mosaic', size=8, stop_epoch=2.5), r'stop_epoch of Mosaic .* got 2\.5'),
        (dict(type='Mosaic', size=8, fill='x'), "fill of Mosaic is None, a number .* got 'x'"),
        (dict(type='MixUp', p=-0.1), r'MixUp takes a probability p.* got -0\.1'),
        (dict(type='MixUp', alpha=0), r'alpha of MixUp must be in 0\.001\.\.1000000\.0, got 0'),
        (dict(type='MixUp', stop_epoch='ten'), "stop_epoch of MixUp .* got 'ten'"),
    ],
)
def test_wrong_arguments_are_refused(config, message):
    with pytest.raises(InputError, match=message) as error:
        TRANSFORMS.build(config)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('mixing', [Mosaic((20, 30)), MixUp(p=1)])
@pytest.mark.parametrize('target', [torch.tensor(1), 'a caption'])
def test_targets_that_can_not_be_mixed_are_refused(mixing, target):
    with pytest.raises(InputError, match='can not mix targets of type'):
        mixing.mix(flat(1, target=target), lambda: flat(2, target=target), 0)


def test_label_sets_of_different_modalities_are_refused():
    first, second = ({**boxes(), 'own': {m: boxes()}} for m in ('rgb', 'ir'))
    with pytest.raises(InputError, match=r"labels of different modalities: \[\['rgb'\], \['ir'\]\]"):
        MixUp(p=1).mix(flat(1, target=first), lambda: flat(2, target=second), 0)


def test_mixup_of_two_sizes_is_refused():
    with pytest.raises(InputError, match=r'MixUp needs images of one size.*\[\(20, 30\), \(22, 30\)\]; put LetterBox'):
        MixUp(p=1).mix(flat(1), lambda: flat(2, height=22), 0)


def test_mixing_outside_a_data_set_is_refused():
    with pytest.raises(InputError, match='Mosaic mixes samples: it belongs into the transforms of a MultimodalDataset'):
        Mosaic(8)(flat(1))
