"""Scores of fused pictures against golden values, literal computations and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure, visual_information_fidelity

from zoo.metrics import fusion_scores
from zoo.metrics.fusion_scores import (
    edge_preservation,
    psnr,
    structural_similarity,
    sum_of_correlations_of_differences,
)

GOLDEN = {
    'EN': '7.47177',
    'SD': '58.9638',
    'AG': '11.2558',
    'SF': '16.7352',
    'MI': '6.82363',
    'CC': '0.704718',
    'SCD': '1.40882',
    'PSNR': '12.7238',
    'PSNR_fusion': '60.8546',
    'Qabf': '0.37833',
}


def test_the_golden_table_is_met_to_the_last_digit():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing='ij')
    a, b = (255 * x / 31).round(), (255 * (0.5 + 0.5 * torch.sin(0.3 * x + 0.2 * y))).round()
    a, b, fused = (t[None, None] for t in (a, b, ((a + b) / 2).round()))
    scores = fusion_scores(fused, {'vis': a, 'ir': b})
    assert all(s.shape == (1,) and s.dtype == torch.float64 for s in scores.values())
    found = {k: f'{float(scores[k]):.{len(v.partition(".")[2])}f}' for k, v in GOLDEN.items()}
    assert found == GOLDEN
    same = fusion_scores(a, {'vis': a, 'ir': a})
    assert f'{float(same["Qabf"]):.5f}' == '0.97479'


def pictures(*shape, seed=0):
    """Smooth enough to have structure, with values that occur more than once."""
    noise = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.avg_pool2d(noise, 3, 1, 1) * 255).round()


def test_a_picture_equal_to_its_sources_is_perfect():
    x = pictures(2, 1, 41, 45)
    scores = fusion_scores(x, {'a': x, 'b': x})
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(scores['SSIM'], ones)
    torch.testing.assert_close(scores['VIF'], 2 * ones)
    torch.testing.assert_close(scores['CC'], ones)
    torch.testing.assert_close(scores['MI'], 2 * scores['EN'])
    assert scores['PSNR'].isinf().all()


# ---- literal computations of one picture, pixel by pixel


def histogram_entropy(*pictures):
    counts = {}
    for key in zip(*(p.ravel().tolist() for p in pictures)):
        counts[key] = counts.get(key, 0) + 1
    return -sum(n / pictures[0].size * math.log2(n / pictures[0].size) for n in counts.values())


def literal_average_gradient(f):
    gy, gx = np.gradient(f)
    return np.sqrt((gx**2 + gy**2) / 2).sum() / ((f.shape[0] - 1) * (f.shape[1] - 1))


def literal_spatial_frequency(f):
    h, w = f.shape
    dx = [(f[i, j + 1] - f[i, j]) ** 2 for i in range(h) for j in range(w - 1)]
    dy = [(f[i + 1, j] - f[i, j]) ** 2 for i in range(h - 1) for j in range(w)]
    return math.sqrt(np.mean(dx) + np.mean(dy))


def pearson(x, y):
    return np.corrcoef(x.ravel(), y.ravel())[0, 1]


def sobel(x):
    h, w = x.shape
    strength, angle = np.zeros((h, w)), np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            at = lambda di, dj: x[min(max(i + di, 0), h - 1), min(max(j + dj, 0), w - 1)]  # noqa: B023, E731
            sx = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1)
            sy = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1)
            strength[i, j] = math.hypot(sx, sy)
            angle[i, j] = math.atan(sy / sx) if sx else math.pi / 2
    return strength, angle


def literal_qabf(f, sources):
    above = below = 0.0
    g_f, a_f = sobel(f)
    for s in sources:
        g_s, a_s = sobel(s)
        for i in np.ndindex(f.shape):
            if g_s[i]:
                g = min(g_s[i], g_f[i]) / max(g_s[i], g_f[i])
                a = 1 - abs(a_s[i] - a_f[i]) / (math.pi / 2)
                q = 0.9994 / (1 + math.exp(-15 * (g - 0.5))) * 0.9879 / (1 + math.exp(-22 * (a - 0.8)))
                above, below = above + q * g_s[i], below + g_s[i]
    return above / below


def literal_scores(f, sources):
    mse = np.mean([((f - s) ** 2).mean() / 255**2 for s in sources])
    others = [np.mean([t for j, t in enumerate(sources) if j != i], 0) for i in range(len(sources))]
    return {
        'EN': histogram_entropy(f),
        'SD': np.std(f),
        'AG': literal_average_gradient(f),
        'SF': literal_spatial_frequency(f),
        'MI': sum(histogram_entropy(f) + histogram_entropy(s) - histogram_entropy(f, s) for s in sources),
        'CC': np.mean([pearson(f, s) for s in sources]),
        'SCD': sum(pearson(f - other, s) for other, s in zip(others, sources)),
        'PSNR': 10 * math.log10(1 / mse),
        'PSNR_fusion': 20 * math.log10(255 / math.sqrt(mse)),
        'Qabf': literal_qabf(f, sources),
    }


@pytest.mark.parametrize('count', [2, 3])
def test_scores_are_those_of_literal_computations(count):
    fused, *sources = (pictures(2, 1, 9, 13, seed=s) for s in range(count + 1))
    sources[0][:, :, :4] = fused[:, :, :4]  # equal edges
    fused[:, :, 4:7, 5:9] = 90  # no edges
    scores = fusion_scores(fused, {str(i): s for i, s in enumerate(sources)})
    for b in range(2):
        literal = literal_scores(fused[b, 0].double().numpy(), [s[b, 0].double().numpy() for s in sources])
        found = {k: float(scores[k][b]) for k in literal}
        assert found == pytest.approx(literal, rel=1e-10)


def test_windows_give_what_torchmetrics_gives():
    fused, a, b = (pictures(2, 1, 43, 50, seed=s).double() for s in range(3))
    fused[:, :, :20], b[1] = b[:, :, :20], 255 - fused[1]  # negative covariances too
    scores = fusion_scores(fused, {'a': a, 'b': b})
    vif = sum(visual_information_fidelity(fused, s, reduction='none') for s in (a, b))
    torch.testing.assert_close(scores['VIF'], vif, rtol=1e-8, atol=1e-8)
    maps = [
        structural_similarity_index_measure(fused, s, data_range=255.0, reduction='none', return_full_image=True)[1]
        for s in (a, b)
    ]  # which it averages with borders that mirror
    ssim = sum(m[..., 5:-5, 5:-5].mean((1, 2, 3)) for m in maps) / 2
    torch.testing.assert_close(scores['SSIM'], ssim, rtol=1e-8, atol=1e-8)


# ---- sources that are not there, and borders of the definitions


def test_an_absent_source_counts_as_if_it_had_not_been_given():
    fused, a, b, c = (pictures(3, 1, 41, 44, seed=s) for s in range(4))
    present = torch.tensor([[True, True, False], [False, True, True], [True, True, True]])
    full = {'a': a, 'b': b.clone(), 'c': c}
    given = {m: x.where(present[:, i, None, None, None], torch.nan) for i, (m, x) in enumerate(full.items())}
    found = fusion_scores(fused, given, present)
    for row, names in enumerate(('ab', 'bc', 'abc')):
        alone = fusion_scores(fused[row, None], {m: full[m][row, None] for m in names})
        for name, value in alone.items():
            torch.testing.assert_close(found[name][row, None], value, msg=name)


def test_a_single_source_has_no_others():
    x, noise = pictures(2, 1, 12, 15), pictures(2, 1, 12, 15, seed=1)
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(sum_of_correlations_of_differences(x, {'a': x}), ones)
    torch.testing.assert_close(structural_similarity(x, {'a': x}), ones)
    assert (edge_preservation(noise, {'a': x}) < 0.9).all()


def test_flat_pictures_have_no_nan_and_small_ones_no_windows():
    flat, x = torch.full((1, 1, 41, 41), 100.1), pictures(1, 1, 41, 41)
    for fused, source in ((flat, x), (x, flat), (flat, flat)):
        scores = fusion_scores(fused, {'a': source, 'b': source})
        assert not any(s.isnan().any() for s in scores.values())
        assert scores['CC'] == 0
    assert fusion_scores(x, {'a': flat})['Qabf'] == fusion_scores(x, {'a': flat})['VIF'] == 0
    assert fusion_scores(flat, {'a': x})['Qabf'] < 0.01
    small = fusion_scores(x[..., :10], {'a': x[..., :10]})
    assert {k for k, s in small.items() if s.isnan().any()} == {'SSIM', 'VIF'}


def test_noise_raises_the_scores_that_do_not_look_at_sources_and_lowers_qabf():
    a, b = pictures(1, 1, 48, 48), pictures(1, 1, 48, 48, seed=1)
    clean = ((a + b) / 2).round()
    noisy = (clean + 40 * torch.randn(clean.shape)).round().clamp(0, 255)
    before, after = (fusion_scores(f, {'a': a, 'b': b}) for f in (clean, noisy))
    assert all(after[k] > before[k] for k in ('EN', 'SD', 'AG', 'SF'))
    assert all(after[k] < before[k] for k in ('CC', 'PSNR', 'SSIM', 'VIF', 'Qabf'))


def test_published_psnr_is_48_decibels_more():
    a, b = pictures(1, 1, 8, 9), pictures(1, 1, 8, 9, seed=1)
    more = psnr(a, {'b': b}, published=True) - psnr(a, {'b': b})
    assert float(more) == pytest.approx(48.1308, abs=1e-4)


@pytest.mark.gpu
def test_nothing_waits_for_a_gpu_and_the_values_are_those_of_the_cpu():
    fused, a, b = (pictures(2, 1, 43, 50, seed=s) for s in range(3))
    present = torch.tensor([[True, True], [False, True]])
    moved = [x.cuda() for x in (fused, a, b, present)]
    torch.cuda.set_sync_debug_mode('error')
    try:
        found = fusion_scores(moved[0], {'a': moved[1], 'b': moved[2]}, moved[3])
    finally:
        torch.cuda.set_sync_debug_mode('default')
    expected = fusion_scores(fused, {'a': a, 'b': b}, present)
    torch.testing.assert_close({k: v.cpu() for k, v in found.items()}, expected)
