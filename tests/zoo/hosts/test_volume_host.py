"""Hosts for volumes: sizes, sliding windows, losses; with a model that predicts from each voxel alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounter

from registry import InputError, NameNotFound
from zoo.batch import Outputs
from zoo.datasets import IGNORE
from zoo.hosts import MMFormer, RFNet
from zoo.hosts.volume_host import VolumeHost, check_widths, window_starts, window_weights
from zoo.layers3d import Decoder3D

MODALITIES = ('flair', 't1')


class Voxelwise(VolumeHost):
    """Logits of a voxel: the sum of the present modalities there, as an affine function of it."""

    def __init__(self, modalities=MODALITIES, multiple=2, **arguments):
        defaults = dict(
            num_classes=3,
            in_chans=1,
            loss='DiceWCE',
            pad_to=None,
            window=None,
            blend='gaussian',
            side_size='full',
            warmup_epochs=0,
            aux_on='present',
            data_preprocessor=None,
            encode_on='present',
        )
        super().__init__(modalities, multiple=multiple, **{**defaults, **arguments})
        torch.manual_seed(0)
        self.encoders = torch.nn.ModuleDict({m: torch.nn.Conv3d(1, 3, 1) for m in self.modalities})
        self.calls = dict.fromkeys(self.modalities, 0)
        for m, encoder in self.encoders.items():
            encoder.register_forward_hook(lambda *_, m=m: self.calls.update({m: self.calls[m] + 1}))

    def encode(self, batch):
        batch = self.padded(batch)
        return {m: [self.encode_modality(e, batch, m)] for m, e in self.encoders.items()}

    def fuse(self, features, mask):
        return sum(
            features[m][0].where(here[:, None, None, None, None], 0) for m, here in zip(self.modalities, mask.unbind(1))
        )

    def decode(self, fused, features):
        side = [F.avg_pool3d(fused, n) for n in (1, 2)] if self.training else []
        return Outputs(self.cropped(fused, features.size), features, {'side': side})

    def branch(self, modality):
        return self.encoders[modality].parameters()


def volumes(size=(9, 12, 7), batch=2, modalities=MODALITIES):
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(batch, 1, *size, generator=generator) for m in modalities}


# ---- windows


@pytest.mark.parametrize('blend', ['gaussian', 'uniform'])
@pytest.mark.parametrize(
    ('size', 'window'),
    [
        ((9, 12, 7), (4, 6, 4)),
        ((9, 12, 7), (8, 12, 6)),
        ((5, 4, 9), (8, 4, 4)),
        ((3, 4, 5), (8, 6, 10)),
        ((6, 8, 10), (6, 8, 10)),
    ],
    ids=str,
)
def test_windows_of_a_voxelwise_model_give_back_the_whole(size, window, blend):
    x = volumes(size)
    whole = Voxelwise(pad_to=2).eval()(x).log_softmax(1)
    host = Voxelwise(pad_to=2, window=window, blend=blend).eval()
    with torch.no_grad():
        found = host(x)
        assert torch.equal(host(x), found)
    assert found.shape == (2, 3, *size)
    torch.testing.assert_close(found.log_softmax(1), whole)


def test_windows_are_averaged_as_probabilities_by_their_weights():
    """Two windows of four along an axis of six, of a model that knows where in its window a voxel is."""

    class Positional(Voxelwise):
        def decode(self, fused, features):
            ramp = torch.linspace(-2, 2, fused.shape[-1])
            return Outputs(fused * 0 + ramp * torch.tensor([1.0, 0.0, -1.0]).view(3, 1, 1, 1), features, {})

    x = volumes((4, 4, 6), batch=1)
    for blend in ('gaussian', 'uniform'):
        p = Positional(window=(4, 4, 4), blend=blend).eval()(x).exp()[0, :, 0, 0]
        ramp = torch.linspace(-2, 2, 4)
        own = torch.stack((ramp, 0 * ramp, -ramp)).softmax(0)
        w = torch.exp(-0.5 * ((torch.arange(4) - 1.5) / 0.5) ** 2) if blend == 'gaussian' else torch.ones(4)
        for v in range(6):
            parts = [(w[v - a], own[:, v - a]) for a in (0, 2) if 0 <= v - a < 4]
            expected = sum(k * q for k, q in parts) / sum(k for k, _ in parts)
            torch.testing.assert_close(p[:, v], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('size', 'window'), [(1, 1), (5, 1), (7, 7), (9, 4), (240, 80), (155, 128)])
def test_windows_cover_every_voxel_and_stay_inside(size, window):
    starts = window_starts(size, window)
    covered = torch.zeros(size, dtype=torch.int64)
    for a in starts:
        assert 0 <= a <= size - window
        covered[a : a + window] += 1
    assert covered.min() > 0
    assert starts == sorted(set(starts))


def test_weights_of_windows_are_positive_and_largest_in_the_middle():
    w = window_weights((80, 64, 48), 'gaussian')
    assert w.shape == (80, 64, 48)
    assert w.min() > 0
    torch.testing.assert_close(w, w.flip(0, 1, 2))
    torch.testing.assert_close(w[40, 32, 24], w.max())
    torch.testing.assert_close(w[50, 31, 23] / w[40, 31, 23], torch.tensor((0.5**2 - 10.5**2) / 200).exp())
    assert torch.equal(window_weights((2, 3, 4), 'uniform'), torch.ones(2, 3, 4))


def test_subsets_of_windows_are_encoded_once_and_equal_a_run_of_each():
    host = Voxelwise(window=(4, 6, 4), pad_to=2).eval()
    x = volumes((6, 6, 7))
    batch = host.make_batch(x, torch.tensor([[True, True], [True, False]]))
    masks = torch.tensor([[True, False], [False, True], [True, True]])
    host.calls = dict.fromkeys(host.modalities, 0)
    with torch.no_grad():
        found = list(host.run_subsets(batch, masks))
    windows = 2 * 1 * 3
    assert host.calls == dict.fromkeys(host.modalities, windows)
    for mask, outputs in zip(masks, found):
        part = batch.restrict(mask)
        part = part.select(part.present.any(1))
        torch.testing.assert_close(outputs.prediction, host.run(part).prediction, rtol=1e-5, atol=1e-5)
    none = host.make_batch(x, torch.tensor([[True, False], [True, False]]))
    assert [o is None for o in host.run_subsets(none, masks)] == [False, True, False]


def test_results_say_which_window_they_are_of():
    assert Voxelwise(window=(4, 4, 4)).settings == {'window': [4, 4, 4], 'blend': 'gaussian'}
    assert Voxelwise().settings == {}


def test_training_takes_volumes_whole():
    host = Voxelwise(window=(4, 4, 4))
    x = volumes((8, 6, 4))
    outputs = host.run(host.make_batch(x))
    assert set(outputs.features) == set(MODALITIES)
    assert host.calls == {'flair': 1, 't1': 1}


# ---- sizes


def test_padding_is_cropped_away_and_reaches_two_cells():
    host = Voxelwise(multiple=4, pad_to=4)
    assert host.padded_size((3, 9, 8)) == (8, 12, 8)
    assert host(volumes((3, 9, 8))).shape == (2, 3, 3, 9, 8)


@pytest.mark.parametrize(
    ('inputs', 'message'),
    [
        (volumes((8, 12, 9)), r'multiples of 4 and at least 8, got 8x12x9 \(D x H x W\).*pad_to=4'),
        (volumes((4, 8, 8)), 'at least 8, got 4x8x8'),
        (volumes((8, 8, 8), batch=0), 'batch of no volumes'),
        ({'flair': torch.zeros(2, 1, 8, 8)}, r'flair must be \(B, C, D, H, W\), got \(2, 1, 8, 8\)'),
        ({'flair': torch.zeros(2, 3, 8, 8, 8)}, r'flair must be \(B, 1, 8, 8, 8\).*got \(2, 3, 8, 8, 8\)'),
        ({**volumes((8, 8, 8)), 't1': torch.zeros(2, 1, 8, 8, 12)}, r't1 must be \(B, 1, 8, 8, 8\)'),
        ({'flair': torch.zeros(2, 1, 8, 8, 8, dtype=torch.int16)}, 'flair must hold floating point numbers'),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(inputs, message):
    host = Voxelwise(multiple=4)
    with pytest.raises(InputError, match=message) as caught:
        host(inputs)
    assert '\n' not in str(caught.value)


def test_volumes_of_unequal_size_are_refused_by_windows_too():
    host = Voxelwise(window=(4, 4, 4)).eval()
    with pytest.raises(InputError, match='t1 must be of 8x8x8 as the first modality'):
        host({**volumes((8, 8, 8)), 't1': torch.zeros(2, 1, 8, 8, 12)})


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(window=(8, 8)), r'window must be three numbers of voxels \(D, H, W\), got \(8, 8\)'),
        (dict(window=(8, 8, 0)), 'window must be three numbers'),
        (dict(window=(8, 8, 7)), 'sides of the window must be multiples of 2'),
        (dict(pad_to=3), 'pad_to must be a multiple of 2'),
        (dict(aux_on='all'), "aux_on='all' takes losses on dropped modalities.*give encode_on='all' too"),
        (dict(warmup_epochs=-1), 'warmup_epochs must be an integer of at least 0, got -1'),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Voxelwise(**arguments)


@pytest.mark.parametrize('arguments', [dict(blend='gausian'), dict(side_size='fully'), dict(aux_on='presents')])
def test_unknown_choices_are_refused_with_the_nearest(arguments):
    with pytest.raises(NameNotFound, match=rf'{next(iter(arguments))}.*[Dd]id you mean'):
        Voxelwise(**arguments)


@pytest.mark.parametrize('widths', [(16,), (4, 8, 12), (16, 'x'), 'ab'])
def test_widths_that_do_not_double_are_refused(widths):
    with pytest.raises(InputError, match='widths must be'):
        check_widths(widths)


# ---- losses


def labels(size=(6, 8, 4), batch=2):
    t = torch.randint(0, 3, (batch, *size), generator=torch.Generator().manual_seed(2))
    t[:, :1] = IGNORE
    return t


@pytest.mark.parametrize('side_size', ['full', 'native'])
def test_side_outputs_are_trained(side_size):
    host = Voxelwise(side_size=side_size)
    batch = host.make_batch(volumes((6, 8, 4)), target=labels())
    outputs = host.run(batch)
    losses = host.losses(outputs, batch)
    assert list(losses) == ['loss_task', 'loss_side_1', 'loss_side_2']
    z = outputs.extras['side'][1]
    if side_size == 'native':
        expected = host.criterion(z, batch.target[:, ::2, ::2, ::2])
    else:
        p = F.interpolate(z.softmax(1), (6, 8, 4), mode='trilinear', align_corners=True)
        expected = host.criterion(p.log(), batch.target)
    torch.testing.assert_close(losses['loss_side_2'], expected)
    torch.testing.assert_close(losses['loss_side_1'], losses['loss_task'])


@pytest.mark.parametrize('side_size', ['full', 'native'])
def test_padding_counts_in_no_side_loss(side_size):
    host = Voxelwise(side_size=side_size, pad_to=2)
    batch = host.make_batch(volumes((5, 8, 4)), target=labels((5, 8, 4)))
    outputs = host.run(batch)
    assert outputs.extras['side'][0].shape[2:] == (6, 8, 4)
    losses = host.losses(outputs, batch)
    torch.testing.assert_close(losses['loss_side_1'], losses['loss_task'])


def test_the_fused_loss_waits_for_the_warm_up():
    host = Voxelwise(warmup_epochs=2)
    x, t = volumes((6, 8, 4)), labels()
    found = []
    for epoch in range(4):
        host.clock.epoch = epoch
        found.append(host(x, target=t, mode='loss')['loss_task'].item())
    assert found[:2] == [0, 0]
    assert min(found[2:]) > 0


def test_the_unimodal_loss_is_that_of_the_rows_as_a_batch():
    host = Voxelwise()
    batch = host.make_batch(volumes((6, 8, 4), batch=3), target=labels(batch=3))
    z = torch.randn(3, 3, 6, 8, 4, requires_grad=True)
    rows = torch.tensor([True, False, True])
    found = host.unimodal_loss(z, batch, rows)
    torch.testing.assert_close(found, host.criterion(z[[0, 2]], batch.target[[0, 2]]))
    nothing = host.unimodal_loss(z, batch, torch.zeros(3, dtype=torch.bool))
    nothing.backward()
    assert nothing == 0
    assert not z.grad.any()


@pytest.mark.parametrize('aux_on', ['present', 'all'])
def test_auxiliary_losses_take_the_rows_that_are_asked_for(aux_on):
    host = Voxelwise(aux_on=aux_on, encode_on='all')
    batch = host.make_batch(volumes((6, 8, 4), batch=3), target=labels(batch=3))
    batch = batch.replace(present=torch.tensor([[1, 1], [1, 0], [1, 1]]).bool(), available=batch.available)
    outputs = host.run(batch)
    host.unimodal = lambda outputs: {m: maps[0] for m, maps in outputs.features.items()}
    rows = [0, 2] if aux_on == 'present' else [0, 1, 2]
    expected = host.criterion(outputs.features['t1'][0][rows], batch.target[rows])
    torch.testing.assert_close(host.losses(outputs, batch)['loss_aux_t1'], expected)


def test_labels_that_do_not_fit_are_refused():
    host = Voxelwise()
    for wrong in (labels((6, 8, 2)), labels().float(), [None, None]):
        with pytest.raises(InputError, match=r'trains on labels, int64 of \(B, D, H, W\) = \(2, 6, 8, 4\)'):
            host(volumes((6, 8, 4)), target=wrong, mode='loss')


def test_a_decoder_of_all_modalities_runs_on_present_rows_only():
    from zoo.layers3d import post_norm

    host = Voxelwise()
    decoder, seen = Decoder3D((2, 4), 3, post_norm), []
    maps = {m: [torch.randn(3, 2, 4, 4, 4), torch.randn(3, 4, 2, 2, 2)] for m in MODALITIES}
    features = host._encoded(host.make_batch(volumes((4, 4, 4), 3), torch.tensor([[1, 0], [1, 0], [1, 1]]).bool()))
    features.update(maps)

    def count(x):
        seen.append(len(x[0]))
        return decoder(x)

    found = host.decode_alone(count, features, 2)
    assert seen == [3, 1]
    assert not found['t1'][:2].any()
    torch.testing.assert_close(found['t1'][2:], decoder([x[2:] for x in maps['t1']]))


SMALL = {RFNet: dict(hidden=8), MMFormer: dict(train_size=(8, 8, 8), dim=8, heads=2, mlp=8, dropout=0.0)}


@pytest.mark.parametrize('cls', SMALL)
def test_what_can_be_compiled_is_one_graph_for_all_batches_and_sizes(cls):
    host = cls(MODALITIES, 3, widths=(4, 8), **SMALL[cls])
    other, counter = copy.deepcopy(host), CompileCounter()
    torch._dynamo.reset()
    for module in other.compilable():
        module.compile(fullgraph=True, dynamic=True, backend=counter)
    for size, shape, present in ((2, (4, 8, 6), None), (3, (8, 4, 10), [[True, False], [True, True], [False, True]])):
        inputs = volumes(shape, size)
        present = present and torch.tensor(present)
        # compiled, a norm is torch's own: the same but for rounding
        torch.testing.assert_close(other(inputs, present), host(inputs, present), rtol=1e-4, atol=1e-5)
    assert counter.frame_count <= len(MODALITIES)
    torch._dynamo.reset()
