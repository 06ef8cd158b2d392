"""The modality sweep: which subsets, which samples, which averages."""

import csv
import json
import math

import pytest
import torch

import zoo
from registry import METRICS, NameNotFound
from zoo.engine import Sweep, parse_subsets, sweep
from zoo.metrics import Metric

MODALITIES = ('rgb', 'depth', 'ir')


def test_all_subsets_come_small_ones_first():
    assert len(parse_subsets('all', ['a', 'b', 'c', 'd'])) == 15
    assert parse_subsets('all', MODALITIES) == [
        ('rgb',),
        ('depth',),
        ('ir',),
        ('rgb', 'depth'),
        ('rgb', 'ir'),
        ('depth', 'ir'),
        MODALITIES,
    ]


def test_lists_of_subsets_are_ordered_inside_and_free_of_repeats():
    assert parse_subsets('ir+rgb, full,rgb+ir', MODALITIES) == [('rgb', 'ir'), MODALITIES]
    assert parse_subsets(['depth'], MODALITIES) == [('depth',)]


def test_an_unknown_modality_is_answered_with_the_nearest():
    with pytest.raises(NameNotFound, match=r"'dept'\. Did you mean 'depth'"):
        parse_subsets('rgb+dept', MODALITIES)


@pytest.fixture
def host():
    return zoo.create_host('late_fusion', modalities=MODALITIES, num_classes=5, encoder='test_resnet')


def batch(size, present=None):
    return {
        'inputs': {m: torch.randn(size, 3, 32, 48) for m in MODALITIES},
        'present': torch.ones(size, 3, dtype=torch.bool) if present is None else torch.tensor(present),
        'target': torch.randint(5, (size,)),
        'modalities': MODALITIES,
    }


def test_scores_equal_one_evaluation_for_each_subset(host):
    batches = [batch(4), batch(3)]
    result = sweep(host, batches, 'Accuracy')
    host.eval()
    for row in result.rows:
        correct = 0
        for data in batches:
            mask = torch.tensor([m in row['modalities'] for m in MODALITIES])
            logits = host(data['inputs'], data['present'] & mask)
            correct += int((logits.argmax(1) == data['target']).sum())
        assert row['score'] == pytest.approx(100 * correct / 7)
        assert row['samples'] == 7


def test_encoders_run_once_for_each_batch(host):
    calls = []
    for encoder in host.encoders.values():
        encoder.register_forward_hook(lambda *_: calls.append(1))
    sweep(host, [batch(2), batch(2)], 'Accuracy')
    assert len(calls) == 2 * 3


def test_samples_with_nothing_left_are_skipped_and_counted(host):
    data = batch(4, [[True, False, False], [True, True, True], [False, True, False], [True, True, False]])
    counts = {r['modalities']: r['samples'] for r in sweep(host, [data], 'Accuracy').rows}
    assert counts[('rgb',)] == 3
    assert counts[('ir',)] == 1
    assert counts[('depth', 'ir')] == 3
    assert counts[MODALITIES] == 4


def test_a_subset_that_no_sample_has_gets_no_score(host):
    data = batch(2, [[True, True, False]] * 2)
    result = sweep(host, [data], 'Accuracy')
    row = next(r for r in result.rows if r['modalities'] == ('ir',))
    assert (row['score'], row['pcr'], row['samples']) == (None, None, 0)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))


def test_a_host_that_fuses_inside_its_encoders_is_run_again(host):
    data = batch(3, [[True, False, False], [True, True, True], [False, True, True]])
    fast = sweep(host, [data], 'Accuracy')
    host.separable = False
    assert sweep(host, [data], 'Accuracy').rows == fast.rows


def test_the_host_is_put_back_into_its_mode_and_gets_no_gradient(host):
    host.train()
    sweep(host, [batch(2)], 'Accuracy', 'full')
    assert host.training
    assert all(p.grad is None for p in host.parameters())


def rows(**scores):
    pcr = {'ab': None}
    return [
        {'modalities': tuple(k), 'score': v, 'pcr': pcr.get(k, 100 * (80 - v) / 80), 'samples': 1, 'metrics': {}}
        for k, v in scores.items()
    ]


def test_averages_take_the_rows_that_the_paper_takes(tmp_path):
    result = Sweep('accuracy', ('a', 'b'), rows(a=40.0, b=60.0, ab=80.0))
    assert result.average == {'score_all': 60.0, 'score_incomplete': 50.0, 'pcr_incomplete': 37.5}
    assert result.numbers()['accuracy'] == 80.0
    result.save(tmp_path)
    table = list(csv.reader((tmp_path / 'modality_sweep.csv').open()))
    assert table[1] == ['1', '0', '40.0000', '50.0000', '1']
    assert table[3] == ['1', '1', '80.0000', '', '1']


class Negative(Metric):
    name = 'negative'

    def update(self, outputs, batch):
        pass

    def compute(self):
        return {'negative': -3.0}


class Error(Negative):
    name = 'error'
    higher_is_better = False

    def compute(self):
        return {'error': math.inf}


def test_pcr_is_undefined_where_its_definition_has_no_meaning(host):
    for metric in (Negative, Error):
        with METRICS.switch_scope_and_registry('zoo'):
            result = sweep(host, [batch(2)], {'type': metric})
        assert [r['pcr'] for r in result.rows] == [None] * 7
