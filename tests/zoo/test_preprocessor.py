"""From collated data to what a host reads."""

import pytest
import torch

from registry import InputError
from zoo import MultimodalPreprocessor


def test_each_modality_is_normalised_with_its_own_statistics():
    preprocessor = MultimodalPreprocessor(
        mean={'rgb': [10.0, 20.0, 30.0], 'depth': 100}, std={'rgb': [1.0, 2.0, 4.0], 'ir': 5.0}
    )
    inputs = {
        'rgb': torch.tensor([12.0, 24.0, 38.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5),
        'depth': torch.full((2, 1, 4, 5), 150, dtype=torch.uint8),
        'ir': torch.full((2, 1, 4, 5), 15.0),
        'flair': torch.full((2, 1, 2, 4, 5), 7, dtype=torch.int16),
    }
    present = torch.ones(2, 4, dtype=torch.bool)
    data = preprocessor({'inputs': inputs, 'present': present, 'target': None, 'modalities': tuple(inputs)})
    assert data['present'] is present
    assert data['target'] is None
    assert data['modalities'] == tuple(inputs)
    expected = {'rgb': [2.0, 2.0, 2.0], 'depth': [50.0], 'ir': [3.0], 'flair': [7.0]}
    for m, x in data['inputs'].items():
        assert x.dtype == torch.float32
        assert x.shape == inputs[m].shape
        assert x.flatten(2)[1, :, -1].tolist() == expected[m]
    assert preprocessor.scale('rgb').tolist() == [1, 2, 4]
    assert preprocessor.scale('depth').tolist() == [1]
    assert preprocessor.scale('flair') == 1


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.uint8, torch.int32, torch.bool])
def test_everything_but_words_becomes_float32(dtype):
    preprocessor = MultimodalPreprocessor(mean={'rgb': 0.5})
    x = torch.ones(2, 3, 4, dtype=dtype)
    assert preprocessor.normalise('rgb', x).dtype == torch.float32
    assert preprocessor.normalise('depth', x).dtype == torch.float32


def test_indices_of_words_stay_integers():
    words = torch.tensor([[1, 2**40]])
    data = MultimodalPreprocessor()({'inputs': {'text': words}})
    assert data['inputs']['text'].dtype == torch.int64
    assert torch.equal(data['inputs']['text'], words)


@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (2, 3, 4, 5, 6), (2, 3, 4), (2, 3)])
def test_restore_is_the_inverse(shape):
    preprocessor = MultimodalPreprocessor(mean={'rgb': [1.0, 2.0, 3.0]}, std={'rgb': [4.0, 5.0, 6.0]})
    x = torch.randn(shape) * 50
    for m in ('rgb', 'depth'):
        torch.testing.assert_close(preprocessor.restore(m, preprocessor.normalise(m, x)), x)


def test_targets_of_any_nesting_go_along():
    boxes = [torch.ones(1, 4), torch.zeros(0, 4)]
    target = {'boxes': boxes, 'names': ['a', 'b'], 'deep': [{'mask': torch.ones(2)}, None], 'pair': (1, torch.ones(1))}
    preprocessor = MultimodalPreprocessor().to('meta')
    found = preprocessor({'inputs': {'rgb': torch.ones(2, 1)}, 'target': target})
    assert found['inputs']['rgb'].device.type == 'meta'
    assert [b.device.type for b in found['target']['boxes']] == ['meta', 'meta']
    assert found['target']['names'] == ['a', 'b']
    assert found['target']['deep'][0]['mask'].device.type == 'meta'
    assert found['target']['deep'][1] is None
    assert found['target']['pair'][0] == 1


def test_statistics_follow_the_device_and_stay_out_of_checkpoints():
    preprocessor = MultimodalPreprocessor(mean={'rgb': 1.0}).to('meta')
    assert preprocessor.mean_rgb.device.type == 'meta'
    assert not preprocessor.state_dict()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'mean': 0.5}, 'mean must map modalities to numbers, got 0.5'),
        ({'mean': {'rgb': 'dark'}}, "mean of 'rgb' must be numbers, got 'dark'"),
        ({'std': {'rgb': 0}}, "std of 'rgb' must be above 0, got 0"),
        ({'std': {'rgb': [1, -1, 1]}}, "std of 'rgb' must be above 0"),
        ({'std': {'rgb': float('nan')}}, "std of 'rgb' must be above 0"),
        ({'invalid': 0}, 'invalid must map modalities to numbers, got 0'),
        ({'invalid': {'depth': 'none'}}, "invalid of 'depth' must be a finite number, got 'none'"),
        ({'invalid': {'depth': float('nan')}}, "invalid of 'depth' must be a finite number, got nan"),
    ],
)
def test_statistics_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        MultimodalPreprocessor(**arguments)


def test_one_channel_is_not_broadcast_to_three():
    preprocessor = MultimodalPreprocessor(mean={'depth': [1.0, 2.0, 3.0]})
    with pytest.raises(InputError, match="mean of 'depth' has 3 values, its data have 1 channels"):
        preprocessor({'inputs': {'depth': torch.ones(2, 1, 4, 5)}})


@pytest.mark.parametrize('dtype', [torch.float32, torch.uint8])
def test_pixels_without_a_measurement_are_zero_after_normalisation(dtype):
    preprocessor = MultimodalPreprocessor(mean={'depth': 100.0}, std={'depth': 50.0}, invalid={'depth': 0})
    x = torch.tensor([[[[0, 200, 50], [100, 0, 250]]]], dtype=dtype)
    found = preprocessor.normalise('depth', x)
    assert found.flatten().tolist() == [0, 2, -1, 0, 0, 3]
    assert preprocessor.restore('depth', found).flatten().tolist() == [100, 200, 50, 100, 100, 250]
    assert x.flatten().tolist() == [0, 200, 50, 100, 0, 250]
    assert preprocessor.measured('depth', found).flatten().tolist() == [False, True, True, False, False, True]
    assert preprocessor.measured('rgb', found) is None


def test_a_modality_without_statistics_may_have_invalid_pixels():
    preprocessor = MultimodalPreprocessor(invalid={'ir': -1})
    x = torch.tensor([[[[-1.0, 3.0]]]])
    assert preprocessor.normalise('ir', x).flatten().tolist() == [0, 3]
    assert x.flatten().tolist() == [-1, 3]
    assert preprocessor.normalise('rgb', x).flatten().tolist() == [-1, 3]


def test_what_an_absent_input_holds_does_not_matter_to_the_others():
    preprocessor = MultimodalPreprocessor(mean={'depth': 4.0}, invalid={'depth': 0})
    x = torch.tensor([0.0, 6.0, 0.0, torch.nan]).view(2, 1, 1, 2)
    found = preprocessor.normalise('depth', x)
    assert found[0].flatten().tolist() == [0, 2]
    assert found[1, 0, 0, 1].isnan()


def test_invalid_pixels_work_without_memory():
    preprocessor = MultimodalPreprocessor(mean={'depth': 4.0}, invalid={'depth': 0}).to('meta')
    assert preprocessor.normalise('depth', torch.zeros(2, 1, 3, 5, device='meta')).shape == (2, 1, 3, 5)


def test_lists_of_tensors_that_differ_in_length_move_together(monkeypatch):
    moves = []
    whole = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, 'to', lambda x, *a, **k: moves.append(tuple(x.shape)) or whole(x, *a, **k))
    preprocessor = MultimodalPreprocessor().to('meta')
    moves.clear()
    boxes = [torch.zeros(n, 4) for n in (2, 0, 3)]
    masks = [torch.zeros(2, 3), torch.zeros(2, 5)]
    found = preprocessor.cast_data({'boxes': boxes, 'masks': masks, 'own': {'ir': {'labels': [torch.arange(2)] * 2}}})
    assert moves == [(5, 4), (2, 3), (2, 5), (4,)]
    assert [tuple(b.shape) for b in found['boxes']] == [(2, 4), (0, 4), (3, 4)]
    assert {x.device.type for x in (*found['boxes'], *found['masks'], *found['own']['ir']['labels'])} == {'meta'}
