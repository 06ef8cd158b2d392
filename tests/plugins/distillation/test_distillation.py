"""The family: teachers from files and what is wrong with them, peers, places, checkpoints without what only trains."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import plugins
from plugins import C2KD, DML, FDCMKD, MWAM, AttentionFeatures, FitNet, LogitKD
from plugins.distillation.logit_kd import kl_loss
from plugins.distillation.places import last_rectifier
from registry import PLUGINS, InputError, NameNotFound
from zoo.encoders.build import build_encoder
from zoo.engine import checkpoint as ckpt
from zoo.hosts import EncoderDecoder, LateFusion

NARROW = {'model': 'test_resnet', 'stem_width': 4, 'channels': (8, 8, 8, 16)}
FAMILY = ['AttentionFeatures', 'C2KD', 'DIST', 'DKD', 'DML', 'FDCMKD', 'FitNet', 'LogitKD', 'NKD', 'OFD', 'PKD']


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(*modalities, seed=0, classes=4, encoder=NARROW, **arguments):
    torch.manual_seed(seed)
    return LateFusion(list(modalities), num_classes=classes, encoder=encoder, **arguments)


def segment(*modalities, seed=0, encoder=(2, 3, 4), **arguments):
    torch.manual_seed(seed)
    return EncoderDecoder(
        list(modalities), num_classes=4, encoder={**NARROW, 'out_indices': encoder}, head='FCN8s', **arguments
    )


def data(*modalities, size=5, masks=False):
    shape = (3, 32, 64)
    target = torch.arange(size) % 4
    if masks:
        target = target.view(-1, 1, 1).repeat(1, 32, 64)
        target[:, :3] = 255
    inputs = {m: draw(size, *shape, seed=i) for i, m in enumerate(modalities)}
    return {'inputs': inputs, 'target': target, 'modalities': modalities}


def test_the_whole_family_is_here():
    found = {n for n, c in PLUGINS.module_dict.items() if issubclass(c, plugins.Distillation)}
    assert {n for n in found if PLUGINS.module_dict[n].__module__.startswith('plugins')} == set(FAMILY)


@pytest.mark.parametrize('name', FAMILY)
def test_each_trains_a_student_of_one_modality_from_a_teacher_of_another(name):
    host = build('rgb').plug(plugin := PLUGINS.build({'type': name, 'teacher': build('depth', seed=1)})).train()
    optimizer = torch.optim.SGD(host.parameters(), lr=0.05)
    for size in (5, 1):
        losses = host(**data('rgb', 'depth', size=size), mode='loss')
        assert len(losses) > 1
        assert all(v.isfinite() for v in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert all(p.grad is not None for p in plugin.parameters())


@pytest.mark.parametrize('name', ['DIST', 'DKD', 'FitNet', 'LogitKD', 'NKD', 'OFD', 'PKD', 'AttentionFeatures'])
def test_maps_are_distilled_place_by_place_where_the_label_counts(name):
    host = segment('rgb').plug(PLUGINS.build({'type': name, 'teacher': segment('depth', seed=1)})).train()
    losses = host(**data('rgb', 'depth', size=2, masks=True), mode='loss')
    assert all(v.isfinite() for v in losses.values())
    if name == 'LogitKD':
        with host.aside():
            batch = host.make_batch(**data('rgb', 'depth', size=2, masks=True))
            s = host.run(batch).prediction
        t = host.plugins['LogitKD'].teacher.run(batch.view(('depth',))).prediction
        s, t = (z.movedim(1, -1)[batch.target != 255] for z in (s, t))
        torch.testing.assert_close(losses['loss_kd'], kl_loss(s, t, 4.0))


def test_two_distillations_and_a_balancing_plugin_act_together():
    host = build('rgb', 'ir', aux_heads=True).plug(
        MWAM(mode='loss'),
        LogitKD(teacher=build('depth', seed=1)),
        FitNet(teacher=build('depth', seed=1), student_modality='rgb'),
    )
    losses = host.train()(**data('rgb', 'ir', 'depth'), mode='loss')
    assert {'loss_kd', 'loss_fitnet', 'loss_task'} <= set(losses)


# ---- teachers


def write(folder, host, classes=None, name='best.pth'):
    meta = {'classes': classes} if classes else {}
    ckpt.save({'state_dict': host.state_dict(), 'meta': meta}, folder / name)
    return str(folder / name)


MODEL = {'type': 'LateFusion', 'modalities': ['depth'], 'num_classes': 4, 'encoder': NARROW}


def test_a_teacher_comes_from_a_config_and_a_checkpoint(tmp_path):
    teacher = build('depth', seed=1)
    (tmp_path / 'teacher.py').write_text(f'model = {MODEL!r}')
    made = FDCMKD(teacher=str(tmp_path / 'teacher.py'), checkpoint=write(tmp_path, teacher))
    found, expected = (build('rgb').plug(p).train() for p in (made, FDCMKD(teacher=teacher)))
    expected.plugins['FDCMKD'].load_state_dict(found.plugins['FDCMKD'].state_dict())
    batch = data('rgb', 'depth')
    torch.testing.assert_close(found(**batch, mode='loss'), expected(**batch, mode='loss'))


def test_a_checkpoint_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"No checkpoint 'work/none\.pth' of the teacher of LogitKD: train it first"):
        build('rgb').plug(LogitKD(teacher=MODEL, checkpoint='work/none.pth'))


def test_a_checkpoint_of_another_architecture_is_named(tmp_path):
    path = write(tmp_path, build('depth', encoder={**NARROW, 'channels': (8, 8, 8, 24)}))
    with pytest.raises(InputError, match=r'best\.pth. does not fit this LateFusion'):
        build('rgb').plug(LogitKD(teacher=MODEL, checkpoint=path))


def test_another_number_of_classes_is_refused():
    with pytest.raises(InputError, match='knows 7 classes, the student 4'):
        build('rgb').plug(LogitKD(teacher=build('depth', classes=7)))


class Names:
    modalities = ('rgb', 'depth')
    classes = ('cat', 'dog', 'cow', 'hen')


def test_other_classes_are_refused_by_name(tmp_path):
    path = write(tmp_path, build('depth'), ['cat', 'cow', 'dog', 'hen'])
    build('rgb').plug(plugin := LogitKD(teacher=MODEL, checkpoint=path))
    with pytest.raises(InputError, match="class 1 was 'cow' there and is 'dog' here"):
        plugin.prepare(Names)
    path = write(tmp_path, build('depth'), list(Names.classes))
    build('rgb').plug(plugin := LogitKD(teacher=MODEL, checkpoint=path))
    plugin.prepare(Names)


def test_without_a_runner_a_batch_without_the_modality_of_the_teacher_is_refused():
    student = build('rgb').plug(LogitKD(teacher=build('depth'))).train()
    whole = data('rgb', 'depth')
    assert student(**whole, mode='loss')['loss_kd'] > 0
    alone = {'inputs': {'rgb': whole['inputs']['rgb']}, 'target': whole['target']}
    with pytest.raises(InputError, match=r"needs depth, the batch has rgb: call .* modalities=\['rgb', 'depth'\]"):
        student(**alone, mode='loss')
    absent = student(**alone, modalities=('rgb', 'depth'), mode='loss')
    assert absent['loss_kd'] == 0


def test_data_without_the_modality_of_the_teacher_are_refused():
    build('rgb').plug(plugin := LogitKD(teacher=build('ir')))
    with pytest.raises(InputError, match='needs ir, the training data deliver rgb, depth'):
        plugin.prepare(Names)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({}, 'needs a teacher'),
        ({'teacher': MODEL}, 'needs the checkpoint of its teacher'),
        ({'checkpoint': 'best.pth', 'teacher_modality': 'a', 'student_modality': 'b'}, 'but no teacher'),
        ({'teacher_modality': 'rgb', 'student_modality': 'rgb'}, 'rgb can not teach itself'),
        ({'teacher': nn.Identity, 'mutual': True}, 'mutual=True is for two modalities of one host'),
        ({'teacher': nn.Identity, 'weight': -1}, 'weight must be a finite number'),
    ],
)
def test_what_does_not_go_together_is_said_at_once(arguments, words):
    with pytest.raises(InputError, match=words):
        LogitKD(**arguments)


def test_the_host_itself_is_no_teacher():
    host = build('rgb')
    with pytest.raises(InputError, match='must be a host of its own'):
        host.plug(LogitKD(teacher=host))


def test_a_modality_that_nobody_has_is_named():
    with pytest.raises(NameNotFound, match=r"No modality of the student .* named 'ir'"):
        build('rgb', 'depth').plug(FitNet(teacher=build('depth'), student_modality='ir'))
    with pytest.raises(NameNotFound, match=r"No modality of the teacher .* named 'ir'"):
        build('rgb').plug(FitNet(teacher=build('depth'), teacher_modality='ir'))


def test_logits_of_one_modality_need_unimodal_predictions():
    host = build('rgb', 'depth', fusion={'type': 'Gated'})
    with pytest.raises(InputError, match=r'has no predictions of its own .* it would with aux_heads=True'):
        host.plug(LogitKD(teacher=build('depth'), student_modality='rgb'))


# ---- places


def test_a_place_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(NameNotFound, match=r"read the teacher .* named 'layer5'.*features, fused, pre_activation"):
        build('rgb').plug(FitNet(teacher=build('depth'), teacher_features='layer5'))
    with pytest.raises(NameNotFound, match=r'encoders\.depth\.model\.layer4'):
        build('rgb').plug(FitNet(teacher=build('depth'), teacher_features='layer4'))


@pytest.mark.parametrize(
    ('place', 'width'),
    [('pre_activation', 16), ('features', 16), ('fused', 16), ('encoders.rgb.model.layer2', 8)],
)
def test_features_are_read_at_any_place(place, width):
    torch.manual_seed(0)
    teacher = build('rgb', seed=1)
    host = build('rgb').plug(plugin := FitNet(teacher=teacher, features=place)).train()
    losses = host(**data('rgb'), mode='loss')
    assert plugin.pairs[0].student_place.width == width
    with host.aside():
        batch = host.make_batch(**data('rgb'))
        s, t = (
            p.read(h.run(batch))
            for h, p in ((host, plugin.pairs[0].student_place), (teacher, plugin.pairs[0].teacher_place))
        )
    torch.testing.assert_close(losses['loss_fitnet'], F.mse_loss(s, t))
    assert s.ndim == (4 if 'layer2' in place else 2)


@pytest.mark.parametrize(
    ('encoder', 'end'),
    [
        ({'model': 'resnet18'}, 'model.layer4.1.act2'),
        ({'model': 'mobilenetv2_100'}, 'model.bn2.act'),
        ({'model': 'vit_tiny_patch16_224', 'depth': 1}, None),
        ({'type': 'TimmPyramid', 'model': 'resnet18'}, 'model.layer4.1.act2'),
        ({'type': 'TimmPyramid', 'model': 'mobilenetv2_100'}, None),  # its blocks end without one
        ({'type': 'ERLAEncoder', 'depths': (1, 1), 'widths': (8, 12), 'stem_width': 8}, None),  # a function
        ({'type': 'FrameAverage', 'encoder': NARROW}, 'encoder.model.layer4.0.act2'),
    ],
)
def test_the_rectifier_that_ends_an_encoder_is_found_and_no_other(encoder, end):
    torch.manual_seed(0)
    encoder = build_encoder(encoder, 3)
    modes = {m: m.training for m in encoder.modules()}
    names = {m: k for k, m in encoder.named_modules()}
    found = last_rectifier(encoder, 3)
    assert (None if found is None else names[found]) == end
    assert modes == {m: m.training for m in encoder.modules()}


def test_frames_of_a_clip_are_averaged():
    encoder = {'type': 'FrameAverage', 'encoder': NARROW}
    clips = {'rgb': draw(4, 3, 3, 32, 48), 'depth': draw(4, 3, 32, 48, seed=1)}
    present = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    host = build('rgb', encoder=encoder).plug(plugin := FitNet(teacher=build('depth', seed=1)))
    batch = host.make_batch(clips, present, torch.arange(4), ('rgb', 'depth'))
    with torch.no_grad():
        outputs = host.eval().run(batch)
        s = plugin.pairs[0].student_place.read(outputs)
        each = torch.stack(
            [
                plugin.pairs[0].student_place.read(host.run(batch.replace(inputs={'rgb': x})))
                for x in clips['rgb'].unbind(2)
            ]
        )
    torch.testing.assert_close(s, each.mean(0))
    losses = host.train()(clips, present, torch.arange(4), mode='loss', modalities=('rgb', 'depth'))
    assert losses['loss_fitnet'] > 0
    stages = build('rgb', encoder=encoder).plug(AttentionFeatures(teacher=build('depth', seed=1))).train()
    assert stages(clips, present, torch.arange(4), mode='loss', modalities=('rgb', 'depth'))['loss_attention'] > 0


def test_two_of_one_kind_keep_their_losses_apart():
    host = build('rgb').plug(
        LogitKD(teacher=build('depth', seed=1), name='a'),
        LogitKD(teacher=build('depth', seed=2), name='b'),
        DML(teacher=build('depth', seed=3)),
        C2KD(teacher=build('depth', seed=4)),
    )
    losses = host.train()(**data('rgb', 'depth'), mode='loss')
    assert {'loss_kd', 'loss_kd_b', 'loss_task_teacher', 'loss_task_teacher_C2KD'} <= set(losses)
    assert losses['loss_kd'] != losses['loss_kd_b']


def test_a_teacher_gets_inputs_as_its_own_preprocessor_makes_them():
    own, theirs = {'mean': {'depth': 2.0}, 'std': {'depth': 4.0}}, {'mean': {'depth': 100.0}, 'std': {'depth': 50.0}}
    teacher = build('depth', seed=1, data_preprocessor=theirs)
    host = build('rgb', data_preprocessor=own).plug(LogitKD(teacher=teacher)).train()
    batch = data('rgb', 'depth')
    raw = 100 + 50 * batch['inputs']['depth']
    batch['inputs']['depth'] = host.data_preprocessor.normalise('depth', raw)
    losses = host(**batch, mode='loss')
    with host.aside(), torch.no_grad():
        s = host.run(host.make_batch(**batch)).prediction
        t = teacher.run(teacher.make_batch({'depth': teacher.data_preprocessor.normalise('depth', raw)})).prediction
    torch.testing.assert_close(losses['loss_kd'], kl_loss(s, t, 4.0), rtol=1e-4, atol=1e-5)


def test_a_teacher_of_several_may_show_one_and_needs_only_that():
    host = build('rgb').plug(plugin := LogitKD(teacher=build('depth', 'ir', seed=1), teacher_modality='depth')).train()
    plugin.prepare(Names)
    assert host(**data('rgb', 'depth'), mode='loss')['loss_kd'] > 0


def test_one_network_is_not_both_a_peer_and_a_frozen_teacher():
    teacher = build('depth', seed=1)
    with pytest.raises(InputError, match='have the same teacher'):
        build('rgb').plug(DML(teacher=teacher), FDCMKD(teacher=teacher))


def test_samples_without_a_label_teach_features_only():
    batch = data('rgb', 'depth')
    batch['target'] = torch.full((5,), -100)
    batch['target'][0] = 1
    for name in ('FDCMKD', 'C2KD', 'NKD', 'DKD'):
        host = build('rgb').plug(PLUGINS.build({'type': name, 'teacher': build('depth', seed=1)})).train()
        assert all(v.isfinite() for v in host(**batch, mode='loss').values())


def test_what_is_not_finite_in_a_teacher_is_skipped_and_counted():
    host = build('rgb').plug(plugin := FDCMKD(teacher=build('depth', seed=1))).train()
    batch = data('rgb', 'depth')
    batch['inputs']['depth'][1] = torch.nan
    losses = host(**batch, mode='loss')
    assert all(v.isfinite() for v in losses.values())
    assert plugin.logged['skipped'][1] == 1


def test_hosts_that_show_no_features_of_a_modality_say_so():
    from zoo.hosts import ESANet

    esanet = {'encoder': {**NARROW, 'out_indices': (1, 2, 3, 4)}, 'num_classes': 4, 'neck': None, 'head': 'FCN8s'}
    with pytest.raises(InputError, match='no encoder of rgb whose stages give maps'):
        ESANet(['rgb', 'ir'], **esanet).plug(
            AttentionFeatures(teacher=segment('rgb'), student_modality='rgb', teacher_modality='rgb')
        )
    with pytest.raises(NameNotFound, match=r'No place to read the student .* named .features.\. Known: pre_activation'):
        ESANet(['rgb', 'ir'], **esanet).plug(
            FitNet(teacher=segment('rgb'), student_modality='rgb', features='features')
        )
    with pytest.raises(InputError, match='does classification, the student segmentation'):
        segment('rgb').plug(LogitKD(teacher=build('depth')))


def test_tokens_of_unequal_number_are_averaged_without_padding():
    from plugins.distillation.distillation import alike

    s, t = draw(2, 4, 6), draw(2, 4, 3, seed=1)
    s[1, :, 4:] = 0
    found, other = alike(s, t)
    torch.testing.assert_close(found[1], s[1, :, :4].mean(1))
    torch.testing.assert_close(other, t.mean(2))


# ---- peers


@pytest.mark.parametrize('cls', [DML, C2KD])
def test_a_peer_is_trained_along(cls):
    peer = build('depth', seed=1)
    host = build('rgb').plug(plugin := cls(teacher=peer)).train()
    before = {k: v.clone() for k, v in peer.state_dict().items()}
    losses = host(**data('rgb', 'depth'), mode='loss')
    assert 'loss_task_teacher' in losses
    assert peer.training
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    sum(losses.values()).backward()
    optimizer.step()
    assert any(not torch.equal(v, before[k]) for k, v in peer.state_dict().items() if 'weight' in k)
    assert all(p.grad.any() for k, p in plugin.teacher.named_parameters() if 'head' in k)


def test_mutual_learning_pulls_both_ways_and_each_side_only_at_itself():
    peer = build('depth', seed=1)
    host = build('rgb').plug(DML(teacher=peer)).train()
    losses = host(**data('rgb', 'depth'), mode='loss')
    with host.aside():
        batch = host.make_batch(**data('rgb', 'depth'))
        s, t = host.run(batch).prediction, peer.run(batch.view(('depth',))).prediction
    expected = F.kl_div(s.log_softmax(1), t.softmax(1), reduction='batchmean')
    expected += F.kl_div(t.log_softmax(1), s.softmax(1), reduction='batchmean')
    torch.testing.assert_close(losses['loss_dml'], expected)


def test_proxies_follow_their_networks_and_meet_where_they_agree():
    host = build('rgb').plug(plugin := C2KD(teacher=build('depth', seed=1))).train()
    losses = host(**data('rgb', 'depth'), mode='loss')
    assert set(losses) == {'loss_task', 'loss_task_teacher', 'loss_proxy_student', 'loss_proxy_teacher', 'loss_proxies'}
    proxies = plugin.parts['rgb']
    for p in proxies.parameters():
        p.data.zero_()  # no order of the classes at all: nothing agrees
    losses = host(**data('rgb', 'depth'), mode='loss')
    assert losses['loss_proxies'] == 0
    assert losses['loss_proxy_student'] > 0
    assert plugin.logged['agreement'][1] == 0


def test_only_hosts_that_classify_samples_have_proxies():
    with pytest.raises(InputError, match='needs a host that classifies samples'):
        segment('rgb').plug(C2KD(teacher=segment('depth')))


def test_a_network_without_stages_has_no_attention():
    with pytest.raises(InputError, match='has no encoder of one modality'):
        build('rgb', 'depth').plug(AttentionFeatures(teacher=build('depth')))
