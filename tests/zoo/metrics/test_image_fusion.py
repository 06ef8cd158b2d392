"""The metric of fused pictures: its sources, its scale, and what the engine makes of it."""

import io
import math
from importlib import import_module

import pytest
import torch
from rich.console import Console
from torch import nn

from registry import METRICS, InputError, NameNotFound
from zoo.batch import Batch, Outputs
from zoo.engine import sweep
from zoo.engine.trial import Trial
from zoo.host import MultimodalHost
from zoo.metrics import fusion_scores
from zoo.metrics.image_fusion import NAMES

MODALITIES = ('vis', 'ir')
STATISTICS = {'mean': {'vis': 120.0, 'ir': 90.0}, 'std': {'vis': 60.0, 'ir': 45.0}}


class MeanPicture(MultimodalHost):
    """The mean of the pictures that are present, in 0..1."""

    task = 'fusion'

    def __init__(self, modalities, data_preprocessor=None):
        super().__init__(modalities, data_preprocessor)
        self.gain = nn.Parameter(torch.ones(()))

    def encode(self, batch):
        raw = {m: self.data_preprocessor.restore(m, batch.inputs[m]) / 255 for m in self.modalities}
        return {m: x.where(here[:, None, None, None], 0) for (m, x), here in zip(raw.items(), batch.mask.T)}

    def fuse(self, features, mask):
        kept = [x.where(here[:, None, None, None], 0) for x, here in zip(features.values(), mask.T)]
        return self.gain * sum(kept) / mask.sum(1)[:, None, None, None]

    def decode(self, fused, features):
        return Outputs(fused, features, {})


class Loader(list):
    dataset = None


def sources(size=4, shape=(41, 43), seed=0):
    """Even grey levels, so that their mean is no tie that a rounding error decides."""
    noise = torch.rand(2, size, 1, *shape, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.avg_pool3d(noise, (1, 3, 3), 1, (0, 1, 1))
    return dict(zip(MODALITIES, 2 * (smooth * 127).round()))


def scored(prediction, inputs, available=None, metric='ImageFusion', restore=None):
    if available is None:
        available = torch.ones(len(prediction), len(inputs), dtype=torch.bool)
    metric = METRICS.build(metric)
    metric.restore = restore
    metric.update(Outputs(prediction, {}, {}), Batch(inputs, available, tuple(inputs)))
    return {k: float(v) for k, v in metric.compute().items()}


def test_it_is_the_mean_over_pictures_of_the_scores_in_percent_or_their_own_unit():
    inputs = sources()
    fused = ((inputs['vis'] + 2 * inputs['ir']) / 3).round()
    metric = METRICS.build('ImageFusion')
    for rows in (slice(0, 3), slice(3, 4)):  # two batches of different sizes
        part = {m: x[rows] for m, x in inputs.items()}
        here = torch.ones(len(part['ir']), 2, dtype=torch.bool)
        metric.update(Outputs(fused[rows] / 255, {}, {}), Batch(part, here, MODALITIES))
    found = {k: float(v) for k, v in metric.compute().items()}
    expected = {k: float(v.mean()) for k, v in fusion_scores(fused, inputs).items()}
    expected |= {k: 100 * expected[k] for k in ('Qabf', 'SSIM', 'CC')}
    assert found == pytest.approx(expected, rel=1e-9)
    assert set(found) == set(NAMES)
    assert metric.name == 'Qabf'
    assert set(NAMES) - set(metric.units) == {'Qabf', 'SSIM', 'CC'}


def test_pictures_are_scored_as_they_are_saved_unless_told_otherwise():
    inputs = sources()
    fused = (inputs['vis'] + 2 * inputs['ir']) / 3  # two thirds of the values lie between two grey levels
    as_saved = scored(fused / 255, inputs)
    assert as_saved['SD'] == pytest.approx(float(fusion_scores(fused.round(), inputs)['SD'].mean()))
    exact = scored(fused / 255, inputs, metric=dict(type='ImageFusion', round_to_8bit=False))
    assert exact['SD'] == pytest.approx(float(fusion_scores(fused, inputs)['SD'].mean()), rel=1e-6)
    assert exact['SD'] != as_saved['SD']
    assert METRICS.build(dict(type='ImageFusion', round_to_8bit=False)).settings == {'round_to_8bit': False}


def test_sources_come_back_from_normalisation_and_from_other_ranges():
    inputs, host = sources(), MeanPicture(MODALITIES, STATISTICS)
    fused = (inputs['vis'] + inputs['ir']) / 510
    expected = scored(fused, inputs)
    normalised = host.data_preprocessor({'inputs': inputs})['inputs']
    assert scored(fused, normalised, restore=host.data_preprocessor.restore) == pytest.approx(expected)
    ones = {m: x / 255 for m, x in inputs.items()}
    assert scored(fused, ones, metric=dict(type='ImageFusion', data_range=1)) == pytest.approx(expected)
    mixed = {'vis': inputs['vis'], 'ir': 100 * ones['ir']}
    ranges = dict(type='ImageFusion', data_range={'vis': 255, 'ir': 100})
    assert scored(fused, mixed, metric=ranges) == pytest.approx(expected)


def test_of_a_colour_picture_the_luma_counts():
    inputs = sources()
    colour = torch.stack([inputs['vis'][:, 0], inputs['ir'][:, 0], inputs['vis'][:, 0].flip(1)], 1)
    luma = 0.299 * colour[:, :1] + 0.587 * colour[:, 1:2] + 0.114 * colour[:, 2:]
    fused, exact = inputs['ir'] / 255, dict(type='ImageFusion', round_to_8bit=False)
    found, expected = (scored(fused, {**inputs, 'vis': x}, metric=exact) for x in (colour, luma))
    for name in ('CC', 'PSNR', 'SSIM'):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)


def test_a_sweep_scores_against_all_sources_that_were_delivered(tmp_path):
    inputs, host = sources(3), MeanPicture(MODALITIES, STATISTICS)
    present = torch.tensor([[True, True], [True, True], [True, False]])
    given = {**inputs, 'ir': inputs['ir'].where(present[:, 1, None, None, None], torch.nan)}
    data = {'inputs': given, 'present': present, 'modalities': MODALITIES}
    result = sweep(host, [data], 'ImageFusion')
    vis, ir, both = result.rows
    assert [r['samples'] for r in result.rows] == [3, 2, 3]
    # without infrared the picture is a copy of the visible one, but of three samples two had infrared to lose
    assert vis['metrics']['CC'] == pytest.approx(scored(inputs['vis'] / 255, inputs, present)['CC'])
    assert vis['metrics']['CC'] < both['metrics']['CC']
    two = {m: x[:2] for m, x in inputs.items()}
    assert ir['score'] == pytest.approx(scored(two['ir'] / 255, two)['Qabf'])
    result.save(tmp_path)
    header = (tmp_path / 'modality_sweep.csv').read_text().partition('\n')[0]
    assert header == 'vis,ir,Qabf,CC,SCD,SSIM,VIF,AG,PSNR_fusion,pcr,samples'
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(result.table())
    text = console.export_text()
    (heading,) = (line for line in text.splitlines() if 'Qabf' in line)
    columns = [cell.strip() for cell in heading.split('┃')[3:-1]]
    assert columns == ['Qabf %', 'CC %', 'SCD', 'SSIM %', 'VIF', 'AG', 'PSNR_fusion dB', 'PCR %', 'samples']
    assert 'average over all 3 subsets' in text


def test_a_score_in_another_unit_can_lead(tmp_path):
    data = {'inputs': sources(1), 'modalities': MODALITIES}
    metric = dict(type='ImageFusion', score='PSNR', also=['Qabf', 'PSNR'])
    result = sweep(MeanPicture(MODALITIES), [data], metric)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(result.table())
    text = console.export_text()
    assert 'PSNR dB ┃ Qabf %' in text
    assert f'average over all 3 subsets {result.average["score_all"]:.2f} dB' in text


def test_an_attacked_picture_is_scored_against_the_clean_sources(monkeypatch):
    inputs, host = sources(2), MeanPicture(MODALITIES, STATISTICS)
    data = {'inputs': inputs, 'present': torch.ones(2, 2, dtype=torch.bool), 'modalities': MODALITIES}
    clean = sweep(host, [data], 'ImageFusion', 'full').complete['metrics']
    module = import_module('zoo.engine.attempt')
    monkeypatch.setattr(Trial, 'build', lambda *_: nn.Identity())

    def flipped(attack, host, crafter, batch, generator):
        return batch.replace(inputs={m: x.flip(2) for m, x in batch.inputs.items()})

    monkeypatch.setattr(module, 'attacked_batch', flipped)
    monkeypatch.setattr(nn.Identity, 'name', 'flip', raising=False)
    found = module.attempt(host, Loader([data]), 'ImageFusion', Trial(MODALITIES, MODALITIES, 'flip'), {})['metrics']
    upside_down = {m: x.flip(2) for m, x in inputs.items()}
    mean = (upside_down['vis'] + upside_down['ir']) / 510
    assert found['SD'] == pytest.approx(clean['SD'])
    assert found['CC'] == pytest.approx(scored(mean, inputs)['CC'])


def test_what_does_not_fit_is_told():
    inputs = sources(2)
    fused = inputs['vis'] / 255
    with pytest.raises(NameNotFound, match=r"'Qab'\. Did you mean 'Qabf'"):
        METRICS.build(dict(type='ImageFusion', score='Qab'))
    with pytest.raises(InputError, match='data_range is what is white'):
        METRICS.build(dict(type='ImageFusion', data_range=0))
    with pytest.raises(NameNotFound, match=r'data_range of ImageFusion.*irr'):
        scored(fused, inputs, metric=dict(type='ImageFusion', data_range={'vis': 255, 'irr': 255}))
    with pytest.raises(InputError, match=r'scores pictures \(B, 1, H, W\) in 0..1, got \(2, 41, 43\)'):
        scored(fused[:, 0], inputs)
    with pytest.raises(InputError, match=r"of one size.*the input 'ir' \(2, 1, 41, 40\)"):
        scored(fused, {**inputs, 'ir': inputs['ir'][..., :40]})
    with pytest.raises(InputError, match=r'are they in 0..1\? Then say data_range=1'):
        scored(fused, {m: x / 255 for m, x in inputs.items()})
    with pytest.raises(InputError, match=r'Sources hold values that are not in 0..data_range=1,'):
        scored(fused, inputs, metric=dict(type='ImageFusion', data_range=1))
    for wrong in (inputs['vis'], fused - 1, torch.full_like(fused, torch.nan)):
        with pytest.raises(InputError, match=r'Fused pictures hold values that are not in 0..1, or NaN'):
            scored(wrong, inputs)
    with pytest.raises(InputError, match=r'Sources hold values .* or NaN'):
        scored(fused, {**inputs, 'ir': inputs['ir'] * torch.nan})


SCRIPT = """
from zoo import Batch, Outputs
from zoo.metrics import ImageFusion

generator = torch.Generator().manual_seed(0)
fused, vis, ir = (torch.rand(3, 1, 41, 42, generator=generator) for _ in range(3))
shared, lone = ImageFusion(), ImageFusion()
for i in range(rank, 3, world):
    batch = Batch({'vis': 255 * vis[i, None], 'ir': 255 * ir[i, None]}, torch.ones(1, 2).bool(), ('vis', 'ir'))
    outputs = Outputs(fused[i, None], {}, {})
    shared.update(outputs, batch)
    if i == 0:  # the other process sees nothing of this subset
        lone.update(outputs, batch)
out = [shared.compute(), shared.compute(), lone.compute(), ImageFusion().compute()]
"""


def test_two_processes_get_what_one_gets_also_where_one_of_them_saw_nothing(ranks):
    alone, *both = ranks(SCRIPT)
    assert all(math.isnan(v) for v in alone[3].values())
    assert not any(math.isnan(v) for v in alone[0].values())
    for found in both:
        torch.testing.assert_close(found, alone, rtol=1e-12, atol=0, equal_nan=True)


@pytest.mark.gpu
def test_nothing_waits_for_a_gpu():
    inputs = {m: x.cuda() for m, x in sources().items()}
    metric, fused = METRICS.build('ImageFusion').cuda(), inputs['vis'] / 255
    batch = Batch(inputs, torch.ones(4, 2, dtype=torch.bool), MODALITIES)
    torch.cuda.set_sync_debug_mode('error')
    try:
        metric.update(Outputs(fused, {}, {}), batch)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    found = {k: float(v) for k, v in metric.compute().items()}
    assert found == pytest.approx(scored(fused.cpu(), {m: x.cpu() for m, x in inputs.items()}))
