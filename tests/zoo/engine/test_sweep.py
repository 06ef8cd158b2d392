"""The modality sweep: which subsets, which samples, which averages."""

import csv
import importlib
import io
import json
import math

import pytest
import torch
from rich.console import Console

import zoo
from registry import METRICS, NameNotFound
from zoo.engine import Sweep, build_dataloader, parse_subsets, sweep
from zoo.engine.sweep import build_metric
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


class PerClass(Metric):
    """Scores of three classes: the second one is not in the labels of a subset that saw a batch."""

    name = 'score'

    def __init__(self):
        super().__init__()
        self.batches = 0

    def update(self, outputs, batch):
        self.batches += 1

    def compute(self):
        if not self.batches:
            return {'score': math.nan, 'IoU': torch.zeros(0), 'recall': torch.zeros(0)}
        return {'score': 50.0, 'IoU': torch.tensor([12.345, math.nan, 3]), 'recall': torch.ones(3, dtype=torch.int64)}


class Named:
    """A loader whose data set names its classes."""

    def __init__(self, batches, classes):
        self.batches = batches
        self.dataset = type('Wrapper', (), {'dataset': type('Data', (), {'classes': classes})()})()

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def sweep_classes(host, classes=('wall', 'floor', 'bed')):
    data = batch(2, [[True, True, False]] * 2)  # no sample has ir
    with METRICS.switch_scope_and_registry('zoo'):
        return sweep(host, Named([data], classes), {'type': PerClass}, 'rgb,ir,full')


def test_scores_of_classes_are_kept_by_name_for_each_subset(host):
    rgb, ir, full = sweep_classes(host).rows
    iou = {'wall': pytest.approx(12.345), 'floor': None, 'bed': 3.0}
    assert rgb['per_class'] == full['per_class'] == {'IoU': iou, 'recall': {'wall': 1, 'floor': 1, 'bed': 1}}
    assert set(ir['per_class']['IoU'].values()) == {None}
    assert rgb['metrics'] == {'score': 50.0}


@pytest.mark.parametrize('classes', [None, (), ('wall', 'floor'), ('wall', 'wall', 'bed')])
def test_classes_without_names_of_their_own_are_numbered(host, classes):
    assert list(sweep_classes(host, classes).rows[0]['per_class']['IoU']) == ['0', '1', '2']


def test_scores_of_classes_are_written_and_shown(host, tmp_path):
    result = sweep_classes(host)
    result.save(tmp_path)
    assert list(csv.reader((tmp_path / 'per_class.csv').open())) == [
        ['score', 'class', 'rgb', 'ir', 'rgb+depth+ir'],
        ['IoU', 'wall', '12.3450', '', '12.3450'],
        ['IoU', 'floor', '', '', ''],
        ['IoU', 'bed', '3.0000', '', '3.0000'],
        ['recall', 'wall', '1.0000', '', '1.0000'],
        ['recall', 'floor', '1.0000', '', '1.0000'],
        ['recall', 'bed', '1.0000', '', '1.0000'],
    ]
    saved = json.loads((tmp_path / 'modality_sweep.json').read_text())
    assert saved['subsets'][0]['per_class']['IoU']['floor'] is None
    console = Console(width=80, record=True, file=io.StringIO())
    title = 'work_dirs/r18_of_many_words/with_some_more/best.pth (test)'  # wider than the table
    console.print(result.class_table(title))
    lines = console.export_text().splitlines()
    assert lines[0].rstrip() == title
    assert [line.split() for line in lines if 'wall' in line] == [
        ['│', 'wall', '│', '12.35', '│', '–', '│', '12.35', '│']
    ]
    assert not [line for line in lines if 'recall' in line]


def test_a_metric_without_scores_of_classes_has_no_table_and_no_file_of_them(host, tmp_path):
    result = sweep(host, [batch(2)], 'Accuracy')
    result.save(tmp_path)
    assert result.class_table() is None
    assert 'per_class' not in result.rows[0]
    assert not (tmp_path / 'per_class.csv').exists()


def test_the_sweep_of_masks_scores_each_subset_as_a_run_of_its_own_does():
    segmenter = zoo.create_host(
        'encoder_decoder', modalities=MODALITIES, num_classes=4, encoder='test_resnet', head='smp.FPN', pad_to=32
    )
    data = batch(3, [[True, False, False], [True, True, True], [False, True, True]])
    data['target'] = torch.randint(4, (3, 48, 40))  # not of the images' size
    result = sweep(segmenter, [data], 'MeanIoU')
    segmenter.eval()
    for row in result.rows:
        present = data['present'] & torch.tensor([m in row['modalities'] for m in MODALITIES])
        rows = present.any(1)
        metric = METRICS.build('MeanIoU')
        part = zoo.Batch(
            {m: x[rows] for m, x in data['inputs'].items()}, present[rows], MODALITIES, data['target'][rows]
        )
        with torch.inference_mode():
            metric.update(segmenter.run(part), part)
        assert row['score'] == pytest.approx(float(metric.compute()['mIoU']))
        assert row['samples'] == int(rows.sum())


DETECTION = dict(dataset=dict(type='ToyBoxes', shift=8), batch_size=4)


@pytest.fixture
def detector_sweep():
    toy_boxes = importlib.import_module('toy_boxes')
    return sweep(toy_boxes.ToyDetector(), build_dataloader(DETECTION, training=False), 'MeanAP')


def test_a_detector_is_scored_on_its_boxes_in_their_final_form(detector_sweep):
    rgb, ir, both = detector_sweep.rows
    assert rgb['score'] == rgb['metrics']['mAP50-95'] == pytest.approx(100)
    assert ir['score'] == 0  # 12 columns of 28 are common
    assert both['per_class']['AP50-95']['bright'] == pytest.approx(50)  # 20 of 28: enough for 0.5, 0.55 ... 0.7
    assert rgb['per_class']['AP50'] == {'dim': pytest.approx(100), 'bright': pytest.approx(100)}
    assert both['samples'] == 9
    assert detector_sweep.to_dict()['settings'] == {'missing': 'mask', 'style': 'coco'}
    assert set(detector_sweep.curves) == {'rgb', 'ir', 'rgb+ir'}
    assert detector_sweep.curves['rgb'].precision == {'dim': [1.0] * 101, 'bright': [1.0] * 101}
    assert detector_sweep.numbers()['mAP50-95'] == both['metrics']['mAP50-95']


def test_files_of_a_detector_have_its_second_score_and_its_curves(detector_sweep, tmp_path):
    detector_sweep.save(tmp_path)
    table = list(csv.reader((tmp_path / 'modality_sweep.csv').open()))
    assert table[0] == ['rgb', 'ir', 'mAP50', 'mAP50-95', 'pcr', 'samples']
    assert table[1][:4] == ['1', '0', '100.0000', '100.0000']
    curves = list(csv.reader((tmp_path / 'pr_curves.csv').open()))
    assert curves[0] == ['class', 'recall', 'rgb', 'ir', 'rgb+ir']
    assert curves[1][:4] == ['mean', '0.00', '1.0000', '0.0000']
    assert (tmp_path / 'pr_curves.png').stat().st_size > 1000
    assert 'curves' not in (tmp_path / 'modality_sweep.json').read_text()
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(detector_sweep.table())
    assert 'mAP50 %' in (header := console.export_text().splitlines()[1])
    assert 'mAP50-95 %' in header


def test_a_metric_that_asks_for_the_number_of_classes_gets_that_of_the_data_or_of_the_host(host):
    assert build_metric('MeanAP', host, ('a', 'b', 'c')).num_classes == 3
    assert build_metric('MeanAP', host).num_classes == host.num_classes
    assert build_metric(dict(type='MeanAP', num_classes=9), host, ('a',)).num_classes == 9
    assert not hasattr(build_metric('Accuracy', host, ('a',)), 'num_classes')


def test_other_metrics_have_neither_settings_nor_curves_in_their_files(host, tmp_path):
    result = sweep(host, [batch(2)], 'Accuracy', 'full')
    assert 'settings' not in result.to_dict()
    result.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['modality_sweep.csv', 'modality_sweep.json']
