"""The measurements of detection compare like with like, and run; how fast anything is, no test asks."""

from importlib.util import find_spec

import pytest
import torch

from tools.speed import detection, yolo_trainer
from tools.speed.detection import Step, detector, scenes, spread_scores
from tools.speed.timing import Laps, rounds
from tools.speed.yolo_trainer import Duel, Finished, as_ours, our_loader, write_scenes

pytestmark = pytest.mark.skipif(find_spec('ultralytics') is None, reason='needs ultralytics')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('scenes')
    write_scenes(path, 4, 64)
    return path


def test_both_trainers_do_the_same_work(folder):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        duel = Duel(folder, 'cpu', steps=1, epochs=1, size=64, batch=2)
        with pytest.raises(Finished):
            duel.trainer.train()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert len(duel.losses) == 4  # two batches an epoch; the two of the warm-up count nowhere
    theirs, ours = map(torch.stack, zip(*duel.losses))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0)  # the first on equal weights, the rest on updated ones
    assert duel.trainer.accumulate == 1
    assert [len(s) for what in duel.seconds.values() for s in what.values()] == [2, 2, 2, 2, 1, 1]


def test_both_trainers_are_measured():
    rows = {r['call']: r for r in yolo_trainer.measure(steps=1, epochs=1, size=64, batch=2, batches=1)}
    assert list(rows) == [
        f'{what}, {who}' for what in ('step', 'loading', 'epoch') for who in ("ultralytics' trainer", 'ours')
    ]
    assert rows["step, ultralytics' trainer"]['parameters'] == rows['step, ours']['parameters'] == 3_012_798
    assert all(r['ratio'] > 0 for r in rows.values())


def test_a_batch_of_theirs_has_the_boxes_of_ours(folder):
    data = our_loader(folder, 64, 2, 'cpu').dataset.dataset
    samples = [data.load(i) for i in range(2)]
    boxes = torch.cat([s['target']['boxes'] for s in samples])
    theirs = {
        'img': torch.stack([s['inputs']['rgb'] for s in samples]),
        'batch_idx': torch.arange(2.0).repeat_interleave(torch.tensor([len(s['target']['boxes']) for s in samples])),
        'cls': torch.cat([s['target']['labels'] for s in samples])[:, None].float(),
        'bboxes': torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1) / 64,
    }
    ours = as_ours(theirs)['target']
    for i, sample in enumerate(samples):
        torch.testing.assert_close(ours['boxes'][i], sample['target']['boxes'])
        assert torch.equal(ours['labels'][i], sample['target']['labels'])


def test_written_scenes_are_those_drawn(folder):
    drawn = scenes(4, 64)
    data = our_loader(folder, 64, 2, 'cpu').dataset.dataset
    for i in range(4):
        sample = data.load(i)
        torch.testing.assert_close(sample['target']['boxes'], drawn['target']['boxes'][i], rtol=0, atol=1e-3)
        assert torch.equal(sample['target']['labels'], drawn['target']['labels'][i])
        difference = sample['inputs']['rgb'].float() - drawn['inputs']['rgb'][i].float()
        assert difference.abs().mean() < 10  # of 255: JPEG


def test_a_step_in_parts_is_the_step():
    data = scenes(2, 64)
    data['inputs'].pop('ir')
    weights = []
    for whole in (True, False):
        step = Step(detector('rgb'), data)
        for _ in range(2):
            step() if whole else step.in_parts(Laps('cpu'))
        weights.append(step.average.state_dict() | {f'own.{k}': v for k, v in step.host.state_dict().items()})
    torch.testing.assert_close(*weights)


def test_spread_scores_let_that_many_candidates_through():
    host = detector('rgb', 'ir').eval()
    batch = host.make_batch(**host.data_preprocessor(scenes(2, 128)))
    with torch.inference_mode():
        spread_scores(host, batch)
        scores = host.run(batch).prediction[:, 4:]
    count = (scores > host.nms['confidence']).sum().item()
    assert count == pytest.approx(2 * detection.CANDIDATES, abs=50)


def test_rounds_and_laps_know_what_took_how_long():
    order = []
    seconds = rounds({'a': lambda: order.append('a'), 'b': lambda: order.append('b')}, 'cpu', repeats=2)
    assert order == ['a', 'b', 'b', 'a', 'a', 'b']
    assert [len(s) for s in seconds.values()] == [2, 2]
    laps = Laps('cpu')
    laps.names, laps.marks = ['short', 'long'], [1.0, 1.5, 4.0]
    assert laps.seconds() == {'short': 0.5, 'long': 2.5}


def test_the_second_stream_is_held_against_its_backbone():
    training, evaluation, gmac = detection.measure_streams(repeats=1, size=64, batch=2)
    for row in (training, evaluation, gmac):
        difference = row['two streams'] - row['one stream']
        assert row['difference / backbone'] == pytest.approx(difference / row['backbone'])
    assert gmac['without fusion'] == pytest.approx(1)
    assert gmac['fusion / two streams'] == pytest.approx(0.0273, abs=1e-3)


def test_mwam_is_measured_on_two_streams():
    plain, mwam = detection.measure_mwam(repeats=1, size=64, batch=2)
    assert 0 < mwam['inside the plugin, ms'] < mwam['ms']
    assert mwam['inside / plain'] == pytest.approx(mwam['inside the plugin, ms'] / plain['ms'])


def test_the_sweep_of_detection_is_measured_with_its_parts():
    rows = {r['evaluation']: r for r in detection.measure_sweep(repeats=1, size=96, batch=2)}
    assert len(rows) == 8
    assert 1.8 < rows['3 subsets, multiply-accumulates']['ratio'] < 2  # neck and head are nearly half of the complete


def test_parts_of_a_step_are_measured():
    rows = {r['part']: r for r in detection.measure_parts(repeats=1, size=64, batch=2)}
    assert rows['step']['ratio'] == 1
    assert {'network, forward', 'loss, forward', 'SGD', 'moving average', 'step, channels-last weights'} <= rows.keys()
