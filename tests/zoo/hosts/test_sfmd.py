"""SF-MD beyond the contract: published sizes, auxiliary heads, states by name, what it refuses."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from plugins import ModalityDropout
from registry import InputError, NameNotFound
from zoo.hosts import SFMD

MODALITIES = ('rgb', 'depth', 'ir')
NARROW = {'encoder': {'type': 'ResNetSEStem', 'channels': (4, 8)}, 'trunk_channels': (8, 8)}


def build(modalities=MODALITIES, seed=0, **arguments):
    torch.manual_seed(seed)
    return SFMD(modalities, **{**NARROW, **arguments})


def data(modalities=MODALITIES, size=6, absent=(), channels=3):
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(size, channels, 24, 40, generator=generator) for m in sorted(modalities)}
    present = torch.ones(size, len(modalities), dtype=torch.bool)
    for row, m in absent:
        present[row, modalities.index(m)] = False
    target = torch.randint(0, 2, (size,), generator=generator)
    return {'inputs': {m: inputs[m] for m in modalities}, 'present': present, 'target': target}


def numbers(parameters):
    return sum(p.numel() for p in parameters)


@pytest.fixture(scope='module')
def published():
    with torch.device('meta'):
        return {aux: SFMD(MODALITIES, aux_heads=aux) for aux in (False, True, 'trunk')}


def test_parameters_are_the_published_ones_part_by_part(published):
    host = published[False]
    assert numbers(host.parameters()) == 13_182_554
    assert [numbers(host.branch(m)) for m in MODALITIES] == [677_576] * 3
    assert numbers(host.trunk.parameters()) == 11_149_826
    assert [numbers(p.parameters()) for p in (host.trunk.layer3, host.trunk.layer4, host.trunk.fc)] == [
        2_755_072,
        8_393_728,
        1_026,
    ]


@pytest.mark.parametrize(('aux', 'extra', 'total'), [(True, 3 * 258, 13_183_328), ('trunk', 10_494_466, 23_677_020)])
def test_auxiliary_heads_have_the_published_size_and_are_for_training_only(published, aux, extra, total):
    host = published[aux]
    assert numbers(host.parameters()) == total
    assert numbers(host.training_only()) == extra


def test_multiply_accumulates_and_maps_are_the_published_ones(published):
    host = published[False].to('meta').eval()
    inputs = {m: torch.zeros(1, 3, 112, 112, device='meta') for m in MODALITIES}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outputs = host.run(host.make_batch(inputs))
    assert counter.get_total_flops() / 2e9 == pytest.approx(0.94045, rel=5e-3)
    assert outputs.prediction.shape == (1, 2)
    shapes = {k: tuple(v.shape[1:]) for k, v in outputs.extras.items()}
    assert shapes == {'fused': (384, 14, 14), 'layer3': (256, 7, 7), 'layer4': (512, 4, 4)}


def test_with_mean_and_variance_it_is_hemis_on_the_same_branches():
    with torch.device('meta'):
        host = SFMD(MODALITIES, fusion='MeanVariance').eval()
        x = {m: torch.zeros(1, 3, 112, 112) for m in MODALITIES}
    assert host.trunk.layer3[0].conv1.in_channels == 256
    assert numbers(host.parameters()) == 12_854_874
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        host(x)
    assert counter.get_total_flops() / 2e9 == pytest.approx(0.92440, abs=1e-5)


def test_parts_do_not_share_parameters_and_make_up_the_whole(published):
    host = published['trunk']
    parts = [*(p for m in MODALITIES for p in host.branch(m)), *host.training_only(), *host.trunk.parameters()]
    assert {id(p) for p in parts} == {id(p) for p in host.parameters()}
    assert len(parts) == len(list(host.parameters()))


@pytest.mark.parametrize('aux', [True, 'trunk'])
def test_a_state_does_not_depend_on_the_order_of_the_modalities(aux):
    host, other = build(aux_heads=aux), build(('ir', 'rgb', 'depth'), seed=1, aux_heads=aux)
    other.load_state_dict(host.state_dict())
    absent = [(0, 'rgb'), (2, 'ir')]
    one = host.eval().run(host.make_batch(**data(absent=absent)))
    two = other.eval().run(other.make_batch(**data(other.modalities, absent=absent)))
    torch.testing.assert_close(two.prediction, one.prediction)
    for m in MODALITIES:
        torch.testing.assert_close(other.unimodal(two)[m], host.unimodal(one)[m])


def test_all_subsets_are_fused_from_one_encoding_and_equal_single_runs():
    host, calls = build().eval(), []
    for encoder in host.encoders.values():
        encoder.register_forward_hook(lambda *_: calls.append(1))
    batch = host.make_batch(**data())
    masks = torch.tensor([[i >> k & 1 for k in range(3)] for i in range(1, 8)], dtype=torch.bool)
    with torch.no_grad():
        found = list(host.run_subsets(batch, masks))
        assert len(calls) == 3
        for mask, outputs in zip(masks, found):
            torch.testing.assert_close(outputs.prediction, host.run(batch.restrict(mask)).prediction)


@pytest.mark.parametrize('aux', [True, 'trunk'])
def test_auxiliary_losses_train_their_own_branch_on_the_samples_that_have_it(aux):
    host = build(aux_heads=aux).train()
    losses = host(**data(absent=[(0, 'rgb'), (3, 'rgb')]), mode='loss')
    assert set(losses) == {'loss_task', *(f'loss_aux_{m}' for m in MODALITIES)}
    losses['loss_aux_rgb'].backward()
    assert any(p.grad.any() for p in host.branch('rgb'))
    assert not any(p.grad is not None and p.grad.any() for m in ('depth', 'ir') for p in host.branch(m))
    assert not any(p.grad is not None and p.grad.any() for p in host.trunk.parameters())


class Without(ModalityDropout):
    """Drops rgb everywhere."""

    def on_inputs(self, host, batch):
        return batch.restrict(torch.tensor([m != 'rgb' for m in batch.modalities]))


@pytest.mark.parametrize(
    ('arguments', 'trained'),
    [
        ({}, False),
        ({'encode_on': 'all'}, False),
        ({'encode_on': 'all', 'aux_on': 'all'}, True),
        ({'preset': 'official'}, True),
    ],
)
@pytest.mark.parametrize('aux', [True, 'trunk'])
def test_a_dropped_modality_is_trained_by_its_head_only_if_told_so(aux, arguments, trained):
    host = build(aux_heads=aux, **arguments).plug(Without()).train()
    sum(host(**data(), mode='loss').values()).backward()
    assert any(p.grad.any() for p in host.branch('rgb')) == trained


def test_a_modality_that_nobody_delivered_is_not_encoded_in_published_training_either():
    host = build(aux_heads='trunk', preset='official').train()
    batch = data(absent=[(i, 'rgb') for i in range(6)])
    batch['inputs']['rgb'].fill_(torch.nan)
    losses = host(**batch, mode='loss')
    sum(losses.values()).backward()
    assert losses['loss_aux_rgb'] == 0
    assert not any(p.grad.any() for p in host.branch('rgb'))


def test_a_sample_does_not_depend_on_its_companions():
    host = build().eval()
    batch = data(absent=[(1, 'ir'), (4, 'rgb')])
    together = host(batch['inputs'], batch['present'])
    for i in range(6):
        alone = host({m: x[i : i + 1] for m, x in batch['inputs'].items()}, batch['present'][i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)


def test_it_learns_from_the_modality_that_carries_the_label():
    host = build(channels := ('rgb', 'ir')).plug(ModalityDropout(mode='subsets')).train()
    optimizer = torch.optim.SGD(host.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(2)

    def draw(size):
        target = torch.randint(0, 2, (size,), generator=generator)
        inputs = {m: torch.randn(size, 3, 24, 40, generator=generator) for m in channels}
        inputs['ir'] += 2.0 * target[:, None, None, None]
        return inputs, target

    for i in range(40):
        host.clock.iteration = i
        inputs, target = draw(16)
        optimizer.zero_grad()
        sum(host(inputs, target=target, mode='loss').values()).backward()
        optimizer.step()
    inputs, target = draw(64)
    batch = host.eval().make_batch(inputs)
    masks = torch.tensor([[True, False], [False, True], [True, True]])
    scores = [(o.prediction.argmax(1) == target).float().mean() for o in host.run_subsets(batch, masks)]
    assert scores[0] < 0.75
    assert min(scores[1:]) > 0.9


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'aux_on': 'all'}, InputError, "aux_on='all' trains heads on modalities that were dropped"),
        ({'aux_on': 'al', 'encode_on': 'all'}, NameNotFound, "'al'.*Did you mean 'all'"),
        ({'preset': 'offical'}, NameNotFound, "Did you mean 'official'"),
        ({'aux_heads': 'light'}, InputError, "False, True or 'trunk', got 'light'"),
        ({'num_classes': 0}, InputError, 'at least 1, got 0'),
        ({'trunk_channels': (8,)}, InputError, 'trunk_channels must be two widths'),
        (
            {
                'aux_heads': 'trunk',
                'encoder': {m: {'type': 'ResNetSEStem', 'channels': (4, i + 4)} for i, m in enumerate(MODALITIES)},
            },
            InputError,
            'the branches must have one width',
        ),
    ],
)
def test_arguments_that_can_not_work_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        build(**arguments)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda x: x[:, :2], r'depth must be floating point images \(B, 3, H, W\)'),
        (lambda x: x[..., 0], 'depth must be floating point images'),
        (lambda x: x.byte(), 'got torch.uint8'),
        (lambda x: x[..., :8], r'depth is \(24, 8\) \(H x W\) where the first modality is \(24, 40\)'),
    ],
)
def test_inputs_that_are_no_such_images_are_refused(change, message):
    batch = data()
    batch['inputs']['depth'] = change(batch['inputs']['depth'])
    with pytest.raises(InputError, match=message):
        build()(**batch)
