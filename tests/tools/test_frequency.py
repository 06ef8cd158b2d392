"""The frequency tool: its numbers against MWAM's own and against a computation by hand, and that it draws anything."""

import json
import math
import runpy
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from plugins.frequency import frequency_ratio
from plugins.mwam import allocation_weights
from zoo.datasets.transforms import FrequencyFilter
from zoo.engine import build_dataloader, load_config

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'tests' / 'toy' / 'toy_config.py'
PICTURES = ('spectra.png', 'filtered.png', 'ratio.png')


@pytest.fixture(scope='module')
def frequency():
    """What the tool's file defines."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / 'tools' / 'frequency.py')))


def test_numbers_are_those_that_mwam_would_see_and_pictures_are_drawn(here, tmp_path):
    code, out, err = here('frequency', CONFIG, '--device', 'cpu', '--out', 'seen')
    assert code == 0, err
    for m in ('rgb', 'depth'):
        assert m in out
    for name in PICTURES:
        pixels = np.asarray(Image.open(tmp_path / 'seen' / name).convert('L'))
        assert min(pixels.shape) > 300
        assert pixels.std() > 10
    found = json.loads((tmp_path / 'seen' / 'frequency.json').read_text())
    assert found['samples'] == 21
    assert found['mwam']['guard'] is True

    ratios, shares, weights = _by_hand()
    for m in ('rgb', 'depth'):
        row = found['modalities'][m]
        assert row['batches'] == len(ratios[m])
        assert row['mean'] == pytest.approx(np.mean(ratios[m]))
        assert row['median'] == pytest.approx(np.median(ratios[m]))
        assert row['cv'] == pytest.approx(np.std(ratios[m], ddof=1) / np.mean(ratios[m]))
        assert row['mean_T'] == pytest.approx(np.mean(shares[m]), rel=1e-6)
        assert row['mean_K'] == pytest.approx(np.mean(weights[m]), rel=1e-6)
    assert sorted(map(len, ratios.values())) == [5, 6]  # one modality is absent from a whole batch


def _by_hand():
    """Per batch of the first epoch in which it is present: a modality's ratio per term, then its T and K."""
    cfg = load_config(CONFIG)
    ratios, shares, weights = ({'rgb': [], 'depth': []} for _ in range(3))
    bank = {}
    for data in build_dataloader(cfg.train_dataloader, True, seed=5):
        here = {m: data['inputs'][m][rows] for m, rows in zip(ratios, data['present'].T) if rows.any()}
        for m, x in here.items():
            terms = x.shape[0] * x.shape[1] * (16 // 8) * (24 // 8) * 2**2
            ratios[m].append(frequency_ratio(x, guard=True).item() / terms)
            bank[m] = (bank.get(m, ratios[m][-1]) + ratios[m][-1]) / 2
        values = torch.tensor([bank[m] for m in ratios], dtype=torch.float64)
        for i, m in enumerate(ratios):
            if m in here:
                shares[m].append((values / values.mean())[i].item())
                weights[m].append(allocation_weights(values)[i].item())
    return ratios, shares, weights


def test_the_means_are_those_that_training_with_mwam_leaves_behind(here, tmp_path):
    options = ('--cfg-options', 'train_cfg.max_epochs=1', 'log_level=WARNING')
    code, _, err = here(
        'train', CONFIG, '--plugins', 'MWAM', '--work-dir', 'run', '--no-test', '--device', 'cpu', *options
    )
    assert code == 0, err
    code, _, err = here('frequency', CONFIG, '--device', 'cpu', '--out', 'seen', '--examples', '1')
    assert code == 0, err
    found = json.loads((tmp_path / 'seen' / 'frequency.json').read_text())['modalities']
    state = torch.load(tmp_path / 'run' / 'iter_6.pth', weights_only=True)['state_dict']
    seen = [[found[m][key] for m in ('rgb', 'depth')] for key in ('mean_K', 'mean_T', 'mean')]
    torch.testing.assert_close(state['plugins.MWAM.means'], torch.tensor(seen, dtype=torch.float64))


def test_it_stops_after_the_samples_asked_for_and_writes_beside_other_runs(here, tmp_path):
    code, out, err = here(
        'frequency', CONFIG, '--samples', '5', '--kind', 'blur_low', '--sizes', '3', '5', '--examples', '1'
    )
    assert code == 0, err
    found = json.loads((tmp_path / 'work_dirs' / 'toy_config' / 'frequency' / 'frequency.json').read_text())
    assert found['samples'] == 8  # two batches of four
    assert found['modalities']['rgb']['batches'] == 2
    assert 'work_dirs/toy_config/frequency' in out.replace('\n', '')


def test_one_modality_has_a_ratio_and_the_weight_1(here, tmp_path):
    options = ('model.modalities=[depth]', 'model.in_chans=1', 'plugins=[]')
    code, _, err = here('frequency', CONFIG, '--out', 'one', '--samples', '8', '--cfg-options', *options)
    assert code == 0, err
    (row,) = json.loads((tmp_path / 'one' / 'frequency.json').read_text())['modalities'].values()
    assert row['mean'] > 0
    assert row['mean_K'] == 1
    assert row['mean_T'] == pytest.approx(1)


MISTAKES = {
    'config': (('nowhere.py',), "No config 'nowhere.py'"),
    'kind': ((CONFIG, '--kind', 'fft_lwo'), "Did you mean 'fft_low'"),
    'size': ((CONFIG, '--sizes', '0'), 'size must be an integer of at least 1'),
    'even blur': ((CONFIG, '--kind', 'blur_low', '--sizes', '4'), 'size must be odd'),
    'blur beyond the picture': ((CONFIG, '--kind', 'blur_low', '--sizes', '77'), 'reflects 38 pixels'),
    'samples': ((CONFIG, '--samples', '0'), '--samples must be at least 1, got 0'),
    'examples': ((CONFIG, '--examples', '-1'), '--examples must be at least 1, got -1'),
    'device': ((CONFIG, '--device', 'gpu'), "Device 'gpu'"),
    'folder': ((CONFIG, '--out', 'file/seen'), 'can not be written'),
    'data': ((CONFIG, '--cfg-options', 'train_dataloader.dataset.type=ToyScene'), "Did you mean 'ToyScenes'"),
    'no data': ((CONFIG, '--cfg-options', 'train_dataloader=None'), 'has no train_dataloader'),
    'small': ((CONFIG, '--cfg-options', 'train_dataloader.dataset.size=[7,7]'), 'smaller than patch_size = 8'),
    'nan': ((CONFIG, '--cfg-options', 'train_dataloader.dataset.bad=infinite'), 'ToyScenes[3]: rgb holds NaN'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_2(here, tmp_path, name):
    given, message = MISTAKES[name]
    (tmp_path / 'file').write_text('')
    code, out, err = here('frequency', *given)
    assert code == 2
    assert out == ''
    assert err.startswith('error: ')
    assert message in err
    assert err.count('\n') == 1, err


def test_the_spectrum_of_a_grating_stands_at_its_frequency(frequency):
    y, x = torch.meshgrid(torch.arange(24), torch.arange(40), indexing='ij')
    wave = torch.cos(2 * math.pi * (3 * y / 24 + 5 * x / 40)).repeat(2, 3, 1, 1)
    spectrum = frequency.log_spectrum(wave)
    assert spectrum.shape == (2, 24, 40)
    height = math.log10(math.sqrt(24 * 40) / 2)  # all of the energy, in two places
    peaks = (spectrum[1] > height - 1e-3).nonzero().tolist()
    assert peaks == [[12 - 3, 20 - 5], [12 + 3, 20 + 5]]
    assert spectrum[0, 9, 15].item() == pytest.approx(height, abs=1e-4)
    assert spectrum[0, 0, 0] < -5


def test_a_volume_has_the_mean_spectrum_of_its_slices_and_a_sequence_one(frequency):
    x = torch.randn(2, 3, 5, 16, 24)
    slices = frequency.log_spectrum(x.movedim(2, 1).flatten(0, 1)).view(2, 5, 16, 24).mean(1)
    torch.testing.assert_close(frequency.log_spectrum(x), slices)
    assert torch.equal(frequency.log_spectrum(x[:, 0, 0]), frequency.log_spectrum(x[:, :1, 0]))
    assert torch.equal(frequency.planes(x), x[:, :, 2])
    assert frequency.planes(x[:, 0, 0]).shape == (2, 1, 16, 24)


def test_a_profile_is_the_mean_over_all_directions(frequency):
    fy, fx = (torch.fft.fftshift(torch.fft.fftfreq(n)) for n in (48, 80))
    radius, values = frequency.profile((fy[:, None] ** 2 + fx**2).sqrt())
    assert radius[0] == 0
    assert radius[-1] == 0.5
    torch.testing.assert_close(values, radius, atol=0.5 / 48, rtol=0)


def test_absent_samples_and_pictures_of_another_size_stay_out_of_the_spectra(frequency):
    x = torch.randn(3, 2, 16, 24)
    broken = x.clone()
    broken[1] = torch.nan
    rows = torch.tensor([[True, False], [False, False], [True, False]])
    batch = SimpleNamespace(
        modalities=('rgb', 'ir'), present=rows, inputs={'rgb': broken, 'ir': broken}, device=torch.device('cpu')
    )
    sums = {}
    frequency.add_spectra(sums, batch)
    batch.inputs = {'rgb': torch.randn(3, 2, 8, 8)}
    frequency.add_spectra(sums, batch)
    assert list(sums) == ['rgb']
    total, count = sums['rgb']
    assert count == 2
    torch.testing.assert_close(total, frequency.log_spectrum(x[[0, 2]]).double().sum(0))


def _survey(frequency, count, batches=4):
    names = tuple(f'm{i}' for i in range(count))
    steps = {key: torch.rand(batches, count, dtype=torch.float64) + 0.1 for key in 'FTK'}
    steps['F'][0, 0] = steps['T'][0, 0] = steps['K'][0, 0] = torch.nan
    spectra = {m: torch.randn(16, 24 + i) for i, m in enumerate(names)}
    return frequency.Survey(names, 99, {'alpha': 1.5, 'beta': 1.0}, steps, spectra)


def _titles(figure):
    return [ax.get_title() for ax in figure.get_axes()]


@pytest.mark.parametrize('count', [1, 2, 5, 9])
def test_any_number_of_modalities_is_drawn_with_titles_and_labels(frequency, tmp_path, count):
    survey = _survey(frequency, count)
    filters = [FrequencyFilter(5, 'fft_low'), FrequencyFilter(50, 'fft_high'), FrequencyFilter(3, 'blur_low')]
    spectra = frequency.draw_spectra(survey, filters, 'run')
    assert [f'm{i} (16x{24 + i})' for i in range(count)] == [t for t in _titles(spectra) if t]
    assert len(spectra.get_axes()[0].patches) == 2  # the windows; a blur has none
    ratio = frequency.draw_ratio(survey, 'run')
    assert len(ratio.get_axes()[2].get_legend().get_texts()) == count
    assert all(ax.get_xlabel() for ax in ratio.get_axes()[1:])
    examples = frequency.Examples(
        {m: torch.rand(2, i % 4 + 1, 16, 24) for i, m in enumerate(survey.modalities)},
        {m: [True, i % 2 == 0] for i, m in enumerate(survey.modalities)},
        blue_first=False,
    )
    filtered = frequency.draw_filtered(examples, filters, 'run')
    axes = filtered.get_axes()
    assert len(axes) == 2 * count * 4
    assert _titles(filtered)[:4] == ['original', 'fft_low 5', 'fft_high 50', 'blur_low 3']
    assert [ax.get_ylabel() for ax in axes[::4]] == [f'm{i}\nsample {n}' for n in (1, 2) for i in range(count)]
    absent = [ax for ax in axes if ax.texts and ax.texts[0].get_text() == 'absent']
    assert len(absent) == count // 2
    assert sum(bool(ax.images) for ax in axes) == 4 * (2 * count - count // 2)
    for figure in (spectra, ratio, filtered):
        assert figure.get_suptitle().startswith('run: ')
        figure.savefig(tmp_path / 'figure.png')


def test_a_modality_that_never_occurs_has_no_numbers_but_a_place(frequency, tmp_path):
    survey = _survey(frequency, 2)
    for values in survey.steps.values():
        values[:, 1] = torch.nan
    survey.spectra.pop('m1')
    summary = frequency.summarise(survey)
    assert summary['m1'] == dict(mean=None, median=None, cv=None, mean_T=None, mean_K=None, batches=0)
    assert summary['m0']['batches'] == 3
    assert summary['m0']['mean'] == pytest.approx(statistics.fmean(survey.steps['F'][1:, 0].tolist()))
    legend = frequency.draw_ratio(survey, 'run').get_axes()[2].get_legend()
    assert legend.get_texts()[1].get_text() == 'm1: never present'
    frequency.draw_spectra(survey, [], 'run').savefig(tmp_path / 'figure.png')
    frequency.summary_table(summary, survey)


def test_colours_and_ranges_of_pictures(frequency):
    """8-bit pictures keep their range, blue comes last, and high frequencies of a flat picture are grey."""
    blue = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    blue[:, 0] = 102
    examples = frequency.Examples({'rgb': blue}, {'rgb': [True]}, blue_first=True)
    figure = frequency.draw_filtered(examples, [FrequencyFilter(3, 'fft_high')], 'run')
    first, second = (ax.images[0].get_array() for ax in figure.get_axes())
    np.testing.assert_allclose(first[4, 5], [0, 0, 0.4], atol=1e-6)
    np.testing.assert_allclose(second[4, 5], [0.5] * 3, atol=1e-3)


def test_the_windows_of_the_paper_follow_the_size_of_the_pictures(frequency):
    examples = frequency.Examples({'rgb': torch.zeros(1, 3, 112, 200)}, {'rgb': [True]}, False)
    filters = frequency.default_filters(('fft_low', 'blur_low'), examples)
    assert [(f.kind, f.size) for f in filters] == [('fft_low', 15), ('fft_low', 30), ('blur_low', 15), ('blur_low', 31)]
