"""What a config's host costs: counted without data, weights or memory, against counts by hand and published ones."""

import socket

import pytest
import torch
from mmengine.config import Config
from torch import nn

import plugins  # noqa: F401  registers them
from plugins import Plugin
from registry import DATASETS, HOSTS, PLUGINS, InputError, NameNotFound
from zoo import create_host
from zoo.engine.cost import cost_key, host_cost, input_shapes, without_weights
from zoo.hosts import LateFusion

MODEL = dict(
    type='LateFusion',
    modalities=['rgb', 'depth'],
    num_classes=4,
    encoder='test_resnet',
    in_chans=dict(rgb=3, depth=1),
)


class NoData(torch.utils.data.Dataset):
    """Fails when anybody builds it."""

    modalities = ('rgb', 'depth')

    def __init__(self, root='nowhere', size=(32, 48)):
        raise AssertionError('a listing built the data set')


class Fixed(torch.utils.data.Dataset):
    """A data set without a choice of size."""

    modalities = ('rgb', 'depth')
    size = (20, 30)


class Shy(torch.utils.data.Dataset):
    """A data set that only knows its size once it is built."""

    modalities = ('rgb', 'depth')

    @property
    def size(self):
        return 7


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for cls in (NoData, Fixed, Shy):
        monkeypatch.setitem(DATASETS.module_dict, cls.__name__, cls)


def config(model=(), dataset=(), **others):
    data = {'dataset': {'type': 'NoData', **dict(dataset)}}
    return Config({'model': {**MODEL, **dict(model)}, 'test_dataloader': data, 'test_evaluator': 'Accuracy', **others})


def counted_by_hooks(host, inputs):
    """Multiply-accumulates of the convolutions and linear layers, from the shapes of their outputs."""
    total = 0

    def count(module, _, output):
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    for module in host.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    host.eval()(inputs)
    return total


def test_counts_equal_those_by_hand():
    host = create_host(**{**{k: v for k, v in MODEL.items() if k != 'type'}, 'name': 'late_fusion'}, aux_heads=True)
    cost = host_cost(config(dict(aux_heads=True)))
    assert cost.host == 'LateFusion'
    assert cost.modalities == ('rgb', 'depth')
    assert cost.parameters == sum(p.numel() for p in host.parameters())
    assert cost.training_only == sum(p.numel() for p in host.aux.parameters()) > 0
    assert cost.branches == {m: sum(p.numel() for p in host.encoders[m].parameters()) for m in host.modalities}
    assert cost.input == {'rgb': [3, 32, 48], 'depth': [1, 32, 48]}
    assert cost.macs == counted_by_hooks(host, {'rgb': torch.zeros(1, 3, 32, 48), 'depth': torch.zeros(1, 1, 32, 48)})


def test_parts_are_listed_level_by_level():
    assert host_cost(config()).parts == ()
    cost = host_cost(config(dict(aux_heads=True)), depth=1)
    found = {p.name: (p.parameters, p.macs) for p in cost.parts}
    assert sorted(found) == ['aux.depth', 'aux.rgb', 'encoders.depth', 'encoders.rgb', 'head']
    assert sum(n for n, _ in found.values()) == cost.parameters
    assert {m: found[f'encoders.{m}'][0] for m in ('rgb', 'depth')} == cost.branches
    assert sum(macs for name, (_, macs) in found.items() if 'aux' not in name) == cost.macs
    assert found['aux.rgb'] == (96 * 4 + 4, 96 * 4)
    finer = {p.name: p for p in host_cost(config(), depth=3).parts}
    inside = [p for name, p in finer.items() if name.startswith('encoders.rgb.model.')]
    assert len(inside) > 2
    assert sum(p.parameters for p in inside) == found['encoders.rgb'][0]
    assert sum(p.macs for p in inside) == found['encoders.rgb'][1]
    assert all(p.macs is None for p in host_cost(config(dataset=dict(type='Shy')), depth=1).parts)


class Peeking(LateFusion):
    """Looks at a value in its forward, which needs real ones."""

    def fuse(self, features, mask):
        assert features['rgb'].sum().item() == features['rgb'].sum().item()
        return super().fuse(features, mask)


class Stubborn(LateFusion):
    """Looks at a value in its constructor."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        assert self.head.weight.abs().max().item() > 0


@pytest.mark.parametrize('host', [LateFusion, Peeking, Stubborn])
def test_attention_counts_whether_values_are_needed_or_not(monkeypatch, host):
    monkeypatch.setitem(HOSTS.module_dict, host.__name__, host)
    concat, attention = (
        host_cost(config(dict(type=host.__name__, fusion=fusion))).macs
        for fusion in ('Concat', dict(type='Attention', out_channels=32))
    )
    channels, width, tokens, classes = 96, 32, 3, 4  # two modalities and the query
    layer = tokens * 4 * width**2 + 2 * tokens**2 * width + tokens * 2 * width * 2 * width
    by_hand = 2 * channels * width + layer + width * classes - 2 * channels * classes
    assert attention - concat == by_hand


@pytest.mark.parametrize(
    ('model', 'millions', 'giga'),
    [
        ('resnet50', 25.557 - 2.049, 4.09),
        ('convnext_base', 88.591 - 1.025, 15.36),
        ('vit_giant_patch14_224', 1011, 267),
    ],
)
def test_published_sizes_are_met_without_the_memory(model, millions, giga):
    """Parameters without the classifier of 1000 classes; multiply-accumulates at 224 x 224."""
    cost = host_cost(config(dict(modalities=['rgb'], in_chans=3, encoder=model), dict(size=224)))
    assert cost.branches['rgb'] / 1e6 == pytest.approx(millions, rel=1e-3)
    assert cost.macs / 1e9 == pytest.approx(giga, rel=5e-3)


def test_neither_data_nor_weights_are_touched(monkeypatch):
    def refuse(*_):
        raise AssertionError('a listing asked the network')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)
    encoders = {m: dict(model='resnet18', pretrained=w) for m, w in (('rgb', True), ('depth', 'missing.pth'))}
    cost = host_cost(config(dict(encoder=encoders)))
    assert cost.branches['rgb'] == 11_176_512


def test_without_weights_reaches_every_depth_and_changes_nothing_given():
    model = dict(a=[dict(pretrained=True)], encoder_weights='imagenet', b=({'c': dict(pretrained='file', d=1)},))
    plain = without_weights(model)
    assert plain == dict(a=[dict(pretrained=False)], encoder_weights=None, b=[{'c': dict(pretrained=False, d=1)}])
    assert model['a'][0]['pretrained'] is True


def test_the_fused_transformer_layers_are_on_again_afterwards():
    host_cost(config())
    assert torch.backends.mha.get_fastpath_enabled()


class Grower(Plugin):
    """Changes the architecture: a layer of its own."""

    structural = True
    min_modalities = 1

    def attach(self, host):
        super().attach(host)
        self.layer = nn.Linear(10, 10, bias=False)


class Trainer(Plugin):
    """Acts in training only; nobody should attach it."""

    def attach(self, host):
        raise AssertionError('a listing attached a plugin of training')


def test_structural_plugins_count_and_others_do_not_exist(monkeypatch):
    for cls in (Grower, Trainer):
        monkeypatch.setitem(PLUGINS.module_dict, cls.__name__, cls)
    plain, grown = config(plugins=['Trainer']), config(plugins=['Trainer', dict(type='Grower')])
    assert host_cost(grown).parameters == host_cost(plain).parameters + 100
    assert cost_key(plain) == cost_key(config())
    assert cost_key(plain) != cost_key(grown)
    assert cost_key(plain) != cost_key(config(dataset=dict(size=64)))
    assert grown.plugins[0] == 'Trainer'  # the config is as it was


FILTER = dict(type='FrequencyFilter', size=5, kind='fft_low')


@pytest.mark.parametrize(
    ('dataset', 'sides'),
    [
        (dict(type='NoData'), [32, 48]),
        ('NoData', [32, 48]),
        (dict(type='NoData', size=40), [40, 40]),
        (dict(type='NoData', size=[8, 24, 16]), [8, 24, 16]),
        (dict(type='NoData', size=40, transforms=[FILTER]), [40, 40]),
        (dict(type='NoData', size=40, transforms=[dict(type='Resize', size=[9, 11]), FILTER, 'RandomFlip']), [9, 11]),
        (dict(type='NoData', transforms=[dict(type='Resize', size=30), dict(type='RandomCrop', size=24)]), [24, 24]),
        (
            dict(type='NoData', transforms=[dict(type='LetterBox', size=30), dict(type='RandomAffine', size=None)]),
            [30] * 2,
        ),
        (dict(type='Fixed'), [20, 30]),
    ],
)
def test_the_size_comes_from_transforms_then_argument_then_default_then_class(dataset, sides):
    cfg = config()
    cfg.test_dataloader = dict(dataset=dataset)
    assert input_shapes(cfg, HOSTS.build(MODEL)) == {'rgb': [3, *sides], 'depth': [1, *sides]}


def test_each_modality_may_have_a_size_of_its_own():
    cfg = config(dataset=dict(size=dict(rgb=[20, 30], depth=10)))
    assert input_shapes(cfg, HOSTS.build(MODEL)) == {'rgb': [3, 20, 30], 'depth': [1, 10, 10]}


def test_channels_are_those_of_the_data_where_the_host_does_not_say_them():
    class Quiet:
        modalities = ('rgb', 'ir')

    cfg = config(dataset=dict(type='CASIASURF', root='nowhere'))
    assert input_shapes(cfg, Quiet()) == {'rgb': [3, 112, 112], 'ir': [3, 112, 112]}


def test_the_training_data_tell_the_size_where_nothing_is_tested():
    cfg = Config(dict(model=MODEL, train_dataloader=dict(dataset=dict(type='NoData', size=26))))
    assert input_shapes(cfg, HOSTS.build(MODEL))['depth'] == [1, 26, 26]


@pytest.mark.parametrize('dataset', [None, dict(type='Shy'), dict(type='NoData', size=dict(rgb=3))])
def test_a_size_that_the_config_does_not_tell_leaves_the_parameters(dataset):
    cfg = Config(dict(model=MODEL))
    if dataset:
        cfg = config(dataset=dataset)
    cost = host_cost(cfg)
    assert cost.input is None
    assert cost.macs is None
    assert cost.parameters > 0


@pytest.mark.parametrize(
    ('cfg', 'error', 'message'),
    [
        (config(dict(type='LateFusio')), NameNotFound, "Did you mean 'LateFusion'"),
        (config(dict(num_clases=3)), InputError, "Did you mean 'num_classes'"),
        (config(plugins=['MWAN']), NameNotFound, "Did you mean 'MWAM'"),
        (config(dataset=dict(type='NoDat')), NameNotFound, "Did you mean 'NoData'"),
        (config(dataset=dict(size=0)), InputError, 'size of rgb must be'),
        (config(dataset=dict(size='large')), InputError, "got 'large'"),
        (Config(dict(plugins=[])), InputError, 'no "model"'),
    ],
)
def test_mistakes_name_what_was_meant(cfg, error, message):
    with pytest.raises(error, match=message):
        host_cost(cfg)


def test_volumes_take_the_size_of_the_data_or_the_hosts_window():
    model = dict(type='RFNet', modalities=['flair', 't1'], num_classes=4, widths=(4, 8), pad_to=2, window=(8, 12, 16))
    phantoms = dict(dataset=dict(type='BrainPhantoms', size=16))
    cost = host_cost(Config({'model': model, 'test_dataloader': phantoms, 'test_evaluator': 'MeanDice'}))
    assert cost.input == {'flair': [1, 16, 16, 16], 't1': [1, 16, 16, 16]}
    brats = dict(dataset=dict(type='BraTS', root='nowhere'))
    cost = host_cost(Config({'model': model, 'test_dataloader': brats, 'test_evaluator': 'MeanDice'}))
    assert cost.input == {'flair': [1, 8, 12, 16], 't1': [1, 8, 12, 16]}
    assert cost.macs > 0
