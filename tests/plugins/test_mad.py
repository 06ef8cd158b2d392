"""MAD: its distance against a literal one, its teacher, and when it acts."""

import copy

import pytest
import torch

from plugins import MAD, ModalityDropout
from plugins.mad import margin_aware_distance, relational_features
from registry import InputError, NameNotFound, PluginWarning
from zoo.batch import Outputs
from zoo.engine import checkpoint as ckpt
from zoo.hosts import SFMD

NARROW = {'encoder': {'type': 'ResNetSEStem', 'channels': (4, 8)}, 'trunk_channels': (8, 8)}


def literal(student, teacher, logits, weighted):
    """Sample by sample, in double."""

    def similarities(features):
        rows = [[float((a * b).sum()) for b in features.double()] for a in features.double()]
        return [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in rows]

    s, t = similarities(student), similarities(teacher)
    p = logits.double().softmax(1)
    entropies = [float(-(q * q.log()).sum()) for q in p]
    n, total = len(s), 0.0
    for i in range(n):
        for j in range(n):
            total += entropies[j if weighted == 'columns' else i] / sum(entropies) * (s[i][j] - t[i][j]) ** 2
    return total


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('weighted', ['columns', 'rows'])
@pytest.mark.parametrize('width', [3, 6])
def test_the_distance_is_the_published_sum(weighted, width):
    student, teacher, logits = draw(5, 3, 2, 2), draw(5, width, 2, 2, seed=1), draw(5, 4, seed=2)
    found = margin_aware_distance(student, teacher, logits, weighted)
    assert float(found) == pytest.approx(literal(student, teacher, logits, weighted), rel=1e-5)


def test_identical_features_are_at_no_distance():
    features = draw(4, 8)
    assert margin_aware_distance(features, features, draw(4, 2)) == 0


def test_only_relations_count_not_scale_or_rotation():
    features = draw(4, 8)
    rotation = torch.linalg.qr(draw(8, 8, seed=1)).Q
    torch.testing.assert_close(
        margin_aware_distance(3 * features @ rotation, features, draw(4, 2)), torch.tensor(0.0), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize('logits', [torch.tensor([[1e4, -1e4]] * 4), torch.tensor([[1e4, -1e4]] * 3 + [[0.0, 0.0]])])
def test_a_teacher_that_is_sure_gives_a_finite_loss_and_gradient(logits):
    student = draw(4, 8).requires_grad_()
    found = margin_aware_distance(student, draw(4, 8, seed=1), logits)
    found.backward()
    assert found > 0
    assert student.grad.isfinite().all()
    assert student.grad.any()


def test_features_of_zeros_give_a_finite_gradient():
    student = torch.zeros(3, 4, requires_grad=True)
    margin_aware_distance(student, draw(3, 4), draw(3, 2)).backward()
    assert student.grad.isfinite().all()


def build(modalities=('rgb', 'ir'), seed=0):
    torch.manual_seed(seed)
    return SFMD(modalities, **NARROW)


def data(modalities=('rgb', 'ir'), size=5):
    inputs = {m: draw(size, 3, 24, 40, seed=i) for i, m in enumerate(modalities)}
    return {'inputs': inputs, 'target': torch.arange(size) % 2}


def test_the_loss_is_the_distance_to_the_teacher_on_complete_samples():
    teacher = build(seed=1)
    host = build().plug(ModalityDropout(mode='subsets'), plugin := MAD(teacher, alpha=3.0, start_epoch=0)).train()
    host.clock.iteration = 3
    losses = host(**data(), mode='loss')
    dropped = host.plugins['ModalityDropout'].on_inputs(host, host.make_batch(**data()))
    assert not dropped.present.all()
    with host.aside():
        student = host.run(dropped)
    taught = host.plugins['MAD'].teacher.run(teacher.make_batch(**data()))
    assert not teacher.training
    expected = margin_aware_distance(student.extras['layer4'], taught.extras['layer4'], taught.prediction)
    torch.testing.assert_close(losses['loss_mad'], 3 * expected)
    assert plugin.logged['distance'][1] == losses['loss_mad'].detach() / 3


def test_nothing_happens_before_the_epoch_or_in_eval_mode():
    host = build().plug(MAD(build(seed=1), start_epoch=2)).train()
    for epoch, keys in ((0, {'loss_task'}), (1, {'loss_task'}), (2, {'loss_task', 'loss_mad'})):
        host.clock.epoch = epoch
        assert set(host(**data(), mode='loss')) == keys
    assert set(host.eval()(**data(), mode='loss')) == {'loss_task'}


def test_the_teacher_stays_as_it_is():
    teacher = build(seed=1)
    before = copy.deepcopy(teacher.state_dict())
    host = build().plug(MAD(teacher, start_epoch=0)).train()
    optimizer = torch.optim.SGD(host.parameters(), lr=0.01)
    sum(host(**data(), mode='loss').values()).backward()
    optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert not any('teacher' in k for k in host.state_dict())
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in host.parameters()}


def test_a_teacher_may_see_what_the_host_does_not():
    teacher = build(('rgb', 'depth'), seed=1)
    host = build(('rgb',)).plug(MAD(teacher, start_epoch=0)).train()
    losses = host(**data(('rgb', 'depth')), modalities=('rgb', 'depth'), mode='loss')
    assert losses['loss_mad'] > 0


@pytest.mark.parametrize('kind', ['file', 'mapping'])
def test_a_teacher_comes_from_a_config_and_a_checkpoint(tmp_path, kind):
    teacher = build(seed=1)
    ckpt.save({'state_dict': teacher.state_dict()}, tmp_path / 'best.pth')
    model = {'type': 'SFMD', 'modalities': ['rgb', 'ir'], **NARROW}
    (tmp_path / 'teacher.py').write_text(f'model = {model!r}')
    source = str(tmp_path / 'teacher.py') if kind == 'file' else model
    host = build().plug(MAD(source, str(tmp_path / 'best.pth'), start_epoch=0)).train()
    given = build().plug(MAD(teacher, start_epoch=0)).train()
    torch.testing.assert_close(host(**data(), mode='loss'), given(**data(), mode='loss'))


def test_going_on_with_another_teacher_is_said():
    host, other = (build().plug(MAD(build(seed=s))) for s in (1, 2))
    with pytest.warns(PluginWarning, match='are not those that training began with'):
        other.load_state_dict(host.state_dict())


@pytest.mark.parametrize(
    ('extras', 'key', 'expected'),
    [
        ({'layer4': 1.0, 'fused': 2.0}, None, 1.0),
        ({'fused': 2.0}, None, 2.0),
        ({'fused': [3.0, 4.0, None]}, None, 4.0),
        ({'side': []}, None, 9.0),
        ({'layer4': 1.0, 'fused': 2.0}, 'fused', 2.0),
    ],
)
def test_what_is_compared_is_found_by_its_name(extras, key, expected):
    def tensor(value):
        return [tensor(v) for v in value] if isinstance(value, list) else value and torch.tensor(value)

    outputs = Outputs(torch.tensor(9.0), {}, {k: tensor(v) for k, v in extras.items()})
    assert relational_features(outputs, key) == expected


@pytest.mark.parametrize(
    ('extras', 'message'),
    [({'side': []}, "No 'layer5' among the extras of the outputs: side"), ({'layer5': []}, 'no tensor')],
)
def test_what_can_not_be_compared_is_refused(extras, message):
    with pytest.raises(InputError, match=message):
        relational_features(Outputs(torch.zeros(1), {}, extras), 'layer5')


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'teacher': {'type': 'SFMD'}}, InputError, 'needs the checkpoint of its teacher'),
        ({'alpha': -1.0}, InputError, 'alpha must be'),
        ({'start_epoch': -1}, InputError, 'start_epoch must be at least 0'),
        ({'weighted': 'row'}, NameNotFound, "Did you mean 'rows'"),
    ],
)
def test_arguments_that_can_not_work_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MAD(**{'teacher': lambda host: host, **arguments})


def test_a_host_is_not_its_own_teacher():
    with pytest.raises(InputError, match='must be a host of its own'):
        build().plug(MAD(lambda host: host))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    ckpt.save({'state_dict': build(('rgb',)).state_dict()}, tmp_path / 'best.pth')
    with pytest.raises(InputError, match='does not fit this SFMD'):
        build().plug(MAD({'type': 'SFMD', 'modalities': ['rgb', 'ir'], **NARROW}, str(tmp_path / 'best.pth')))
