"""ISFuse: published size and cost, its wiring, gates, absent modalities, colours, bad input, and that it learns."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from registry import HOSTS, InputError
from zoo.colour import luma
from zoo.engine import build_optim_wrapper
from zoo.losses import fidelity


def make(modalities=('vis', 'ir'), dim=8, **arguments):
    torch.manual_seed(0)
    return HOSTS.build(dict(type='ISFuse', modalities=list(modalities), dim=dim, **arguments))


def images(modalities=('vis', 'ir'), size=(12, 20), batch=3, channels=1):
    generator = torch.Generator().manual_seed(1)
    return {m: torch.rand(batch, channels, *size, generator=generator) for m in modalities}


def count(host):
    return sum(p.numel() for p in host.parameters())


def test_it_has_the_published_size_without_what_the_published_code_never_runs():
    host = make(dim=32)
    assert count(host) == 192_388 == 231_780 - 39_392
    assert [sum(p.numel() for p in host.branch(m)) for m in host.modalities] == [46_944, 46_944]
    shared = make(dim=32, share_encoder=True)
    assert count(shared) == 145_444
    assert not [p for m in shared.modalities for p in shared.branch(m)]
    assert count(host) - count(make(dim=32, head_kernel=1)) == 32 * 8


def test_it_costs_what_is_published():
    host = make(dim=32).to('meta').eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        host({m: torch.empty(1, 1, 256, 256, device='meta') for m in host.modalities})
    assert counter.get_total_flops() / 2 == pytest.approx(5.953e9, rel=1e-4)


def test_levels_are_fused_and_decoded_from_coarse_to_fine():
    host, x = make().eval(), images()
    with torch.no_grad():
        outputs = host.run(host.make_batch(x))
        maps = {m: encoder(x[m]) for m, encoder in host.encoders.items()}
        mask = torch.ones(3, 2, dtype=torch.bool)
        fused = [f({m: p[i] for m, p in maps.items()}, mask) for i, f in enumerate(host.fusions)]
        y = fused[2]
        for i in (1, 0):
            y = host.decoders[i](F.interpolate(y, fused[i].shape[2:], mode='bilinear') + fused[i])
        expected = host.head(y).sigmoid()
    torch.testing.assert_close(outputs.prediction, expected)
    assert [tuple(m.shape[2:]) for m in maps['vis']] == [(12, 20), (6, 10), (3, 5)]
    assert [tuple(g.shape) for g in outputs.extras['gates']] == [(3, 1, 12, 20), (3, 1, 6, 10), (3, 1, 3, 5)]
    assert host.unimodal(outputs) is None


@pytest.mark.parametrize('size', [(37, 53), (4, 5)])
@pytest.mark.parametrize('modalities', [('a',), ('a', 'b', 'c')])
def test_odd_sizes_and_any_number_of_modalities_keep_their_shape(size, modalities):
    host, x = make(modalities), images(modalities, size, batch=1)
    losses = host(x, mode='loss')
    losses['loss_task'].backward()
    assert host(x).shape == (1, 1, *size)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in host.parameters())


def test_the_loss_is_that_of_the_sources_that_are_there():
    host, x = make().eval(), images()
    present = torch.tensor([[True, True], [True, False], [True, True]])
    x['ir'][1] = torch.nan
    batch = host.make_batch(x, present)
    outputs = host.run(batch)
    found = host.sample_losses(outputs, batch)
    both, one = torch.cat((x['vis'], x['ir']), 1), x['vis'][1:2]
    parts = [sum(fidelity(outputs.prediction[i : i + 1], s)) for i, s in enumerate((both[:1], one, both[2:]))]
    torch.testing.assert_close(found, torch.cat(parts))
    torch.testing.assert_close(host.losses(outputs, batch)['loss_task'], found.mean())
    assert not outputs.extras['gates'][0][1].any()


def test_of_colours_the_luma_is_fused():
    grey, coloured = make(), make(in_chans={'vis': 3, 'ir': 1})
    coloured.load_state_dict(grey.state_dict())
    x = {**images(channels=1), 'vis': images(channels=3)['vis']}
    with_luma = {**x, 'vis': luma(x['vis'])}
    torch.testing.assert_close(coloured.eval()(x), grey.eval()(with_luma))
    torch.testing.assert_close(coloured(x, mode='loss'), grey(with_luma, mode='loss'))


def test_another_block_has_no_gates():
    host = make(fusion='Sum')
    assert host.run(host.make_batch(images())).extras == {}


@pytest.mark.parametrize('arguments', [{'dim': 0}, {'head_kernel': 2}, {'in_chans': 4}], ids=str)
def test_what_it_can_not_be_is_refused(arguments):
    with pytest.raises(InputError, match='ISFuse'):
        make(**{'dim': 8, **arguments})


def test_images_that_can_not_be_fused_are_refused():
    host, x = make(), images()
    with pytest.raises(InputError, match=r'ir is \(12, 19\) \(H x W\) where the first modality is \(12, 20\)'):
        host({**x, 'ir': x['ir'][..., :-1]})
    with pytest.raises(InputError, match='at least 4 pixels a side, got 3x20'):
        host(images(size=(3, 20)))
    x['ir'][0, 0, 2, 3] = torch.nan
    with pytest.raises(InputError, match='ir holds NaN'):
        host(x)


def test_images_of_8_bits_that_nobody_scaled_get_one_warning():
    x = {m: 255 * v for m, v in images().items()}
    host = make()
    with pytest.warns(UserWarning, match=r'fuses images in 0\.\.1, vis has .*std=dict\(vis=255, .*16 bits 65535'):
        host(x)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        host(x)
        scaled = make(data_preprocessor={'std': {'vis': 255, 'ir': 255}})
        scaled(**scaled.data_preprocessor({'inputs': x}))


def scenes(size=32):
    """Eight pairs of blobs on slopes, each seen by one of the two."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing='ij')
    at = torch.rand(8, 2, 2, 1, 1)
    blobs = [torch.exp(-((x - at[:, i, 0]) ** 2 + (y - at[:, i, 1]) ** 2) / 0.02) for i in range(2)]
    vis, ir = 0.5 * x + 0.5 * blobs[0], 0.5 * y + 0.5 * (blobs[1] > 0.5)
    return {'vis': vis[:, None], 'ir': ir[:, None]}


def overfitted(dim, steps):
    """The excess of the intensities over their floor, and the edges, before and after."""
    host, x = make(dim=dim), scenes()
    wrapper = build_optim_wrapper(host, {'optimizer': {'type': 'Adam', 'lr': 1e-3}})
    sources = torch.cat(list(x.values()), 1)
    floor = (x['vis'] - x['ir']).abs().mean()
    found = []
    for step in range(steps + 1):
        if step in (0, steps):
            with torch.no_grad(), host.aside():
                intensity, edges = fidelity(host(x), sources)
            found.append(((intensity.mean() - floor).item(), edges.mean().item()))
        host.train_step({'inputs': x}, wrapper)
    return found


def test_it_learns_eight_pairs():
    before, after = overfitted(dim=8, steps=40)
    assert 0 <= after[0] < before[0] / 2
    assert after[1] < before[1] / 2


@pytest.mark.slow
def test_the_whole_network_overfits_eight_pairs():
    before, after = overfitted(dim=32, steps=200)
    assert 0 <= after[0] < before[0] / 5
    assert after[1] < before[1] / 5
