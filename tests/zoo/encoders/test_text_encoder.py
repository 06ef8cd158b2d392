"""A language model as an encoder: tiny ones with random weights; what absent and padded words must not do."""

import sys
from importlib.util import find_spec

import pytest
import torch

import zoo
from registry import ENCODERS, InputError
from zoo.encoders import TextEncoder
from zoo.encoders.text_encoder import BIDIRECTIONAL
from zoo.foreign_text import transformers_module

pytestmark = pytest.mark.skipif(find_spec('transformers') is None, reason='needs transformers')

TINY = dict(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
NAMES = {  # of what some call otherwise
    'distilbert': dict(vocab_size=30, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
    'electra': {**TINY, 'embedding_size': 16},
    'albert': {**TINY, 'embedding_size': 8},
    'gpt2': dict(vocab_size=30, n_embd=16, n_layer=2, n_head=2),
}


def build(model='bert', attention=None, **arguments):
    torch.manual_seed(0)
    encoder = TextEncoder(model, **{**NAMES.get(model, TINY), **arguments})
    if attention:
        encoder.model.set_attn_implementation(attention)
    return encoder


def text(size=3, length=7, words=(7, 4, 2)):
    ids = torch.randint(3, 30, (size, length), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(length) < torch.tensor(words)[:, None]
    return torch.stack([ids, mask.long()], 1)


@pytest.mark.parametrize('model', sorted(BIDIRECTIONAL))
def test_it_gives_the_hidden_states_of_the_model_where_its_mask_is_ready_made(model):
    encoder, x = build(model, pool=None).eval(), text()
    expected = encoder.model(input_ids=x[:, 0], attention_mask=x[:, 1])[0]
    expected = expected * x[:, 1, :, None]
    torch.testing.assert_close(encoder(x), expected)
    encoder.pool = 'cls'
    torch.testing.assert_close(encoder(x), expected[:, 0])
    encoder.pool = 'mean'
    torch.testing.assert_close(encoder(x), expected.sum(1) / torch.tensor([[7.0], [4.0], [2.0]]))
    assert encoder.out_channels == 16


@pytest.mark.parametrize(('model', 'attention'), [('bert', 'eager'), ('gpt2', None), ('mpnet', None)])
@pytest.mark.parametrize('pool', ['cls', 'mean', None])
def test_padding_has_no_influence(model, attention, pool):
    encoder = build(model, attention, pool=pool).eval()
    x, other = text(), text()
    other[:, 0] = torch.where(x[:, 1] == 1, x[:, 0], 5)
    assert not torch.equal(x, other)
    torch.testing.assert_close(encoder(x), encoder(other))


@pytest.mark.parametrize('pool', ['cls', 'mean', None])
@pytest.mark.parametrize('attention', ['sdpa', 'eager'])
def test_a_text_without_words_is_finite_and_leaves_the_others_alone(pool, attention):
    encoder, x = build(attention=attention, pool=pool).eval(), text()
    alone = encoder(x[:2])
    x[2] = 0
    y = encoder(x)
    assert y.isfinite().all()
    torch.testing.assert_close(y[:2], alone)
    y.sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize('model', ['bert', 'roberta', 'gpt2'])
def test_every_parameter_is_trained(model):
    encoder = build(model, pool='mean')
    assert encoder.training
    encoder(text()).square().sum().backward()
    assert not [n for n, p in encoder.named_parameters() if p.grad is None]


def test_bert_base_has_its_published_size():
    with torch.device('meta'):
        encoder = TextEncoder()
    assert encoder.out_channels == 768
    pooler = 768 * 768 + 768
    assert sum(p.numel() for p in encoder.parameters()) == 109_482_240 - pooler  # Devlin et al.: 110 M


@pytest.mark.parametrize('model', sorted(BIDIRECTIONAL))
def test_it_never_waits_for_the_device(model):
    """On the meta device, which has no values to look at."""
    with torch.device('meta'):
        encoder = build(model, pool='mean')
    assert encoder(text().to('meta')).shape == (3, 16)


def test_weights_come_from_a_folder(tmp_path):
    transformers = transformers_module()
    config = transformers.BertConfig(**TINY, layer_norm_eps=1e-3)
    model = transformers.BertForMaskedLM(config).eval()
    model.save_pretrained(tmp_path / 'mine')
    x = text()
    expected = model.bert(input_ids=x[:, 0], attention_mask=x[:, 1])[0][:, 0]
    for arguments in ({'model': 'bert', 'pretrained': str(tmp_path / 'mine')}, {'model': str(tmp_path / 'mine')}):
        encoder = TextEncoder(**{'pretrained': True, **arguments}, hidden_dropout_prob=0.3)
        assert encoder.training
        assert encoder.model.embeddings.dropout.p == 0.3
        torch.testing.assert_close(encoder.eval()(x), expected)
    with pytest.raises(InputError, match='are those of bert, not of roberta'):
        TextEncoder('roberta', pretrained=str(tmp_path / 'mine'))
    with pytest.raises(InputError, match=r"lack \d+ of the model, 'encoder\.layer\.2"):
        TextEncoder(pretrained=str(tmp_path / 'mine'), num_hidden_layers=3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'in_chans': 3}, r'in_chans=2, ids and mask, got 3: say in_chans for each modality'),
        ({'pool': 'max'}, "'cls', 'mean' or None, got 'max'"),
        ({'model': './nowhere'}, r"text model '\./nowhere' can not be read .* a folder, or a name on the Hugging"),
        ({'pretrained': True}, "'bert' is a type of models"),
        ({'hiden_size': 16}, "configuration of bert has no 'hiden_size'"),
        ({'hidden_size': 15}, "'bert' can not be built"),
        ({'model': 't5'}, r"'t5' \(t5\) is no model that encodes text alone"),
        ({'model': 'clip'}, r"'clip' \(clip\) is no model that encodes text alone"),
    ],
)  # fmt: skip
def test_mistakes_are_named(arguments, message):
    sizes = {} if arguments.keys() & {'model', 'hiden_size'} else {**TINY}
    with pytest.raises(InputError, match=message):
        TextEncoder(**{**sizes, **arguments})


def test_inputs_that_are_no_text_of_the_model_are_refused():
    encoder = build(max_position_embeddings=7)
    with pytest.raises(InputError, match=r'got torch\.float32 \(3, 2, 7\)\. The preprocessor leaves it alone'):
        encoder(text().float())
    with pytest.raises(InputError, match=r'int64 \(B, 2, L\), ids and mask'):
        encoder(text()[:, 0])
    with pytest.raises(InputError, match='8 words is too long for bert, which takes 7'):
        encoder(text(length=8))
    with pytest.raises(InputError, match=r'bert has 30 words .* the tokenizer of the data must be that of the model'):
        encoder(text() + 30)


def test_without_transformers_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(InputError, match=r"needs the package transformers.*pip install 'counterpoise\[text\]'"):
        ENCODERS.build({'type': 'TextEncoder'})


# ---- beside pictures


def host(**arguments):
    torch.manual_seed(0)
    return zoo.create_host(
        'late_fusion',
        modalities=['image', 'text'],
        num_classes=4,
        in_chans={'image': 3, 'text': 2},
        encoder={'image': 'test_resnet', 'text': {'type': 'TextEncoder', 'model': 'bert', **TINY}},
        **arguments,
    )


def batch():
    return {
        'inputs': {'image': torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(2)), 'text': text()},
        'present': torch.tensor([[True, True], [True, False], [False, True]]),
        'target': torch.tensor([0, 3, 1]),
    }


@pytest.mark.parametrize('encode_on', ['present', 'dense'])
def test_what_stands_in_an_absent_text_has_no_influence(encode_on):
    model = host(encode_on=encode_on, aux_heads=True).eval()
    data = batch()
    expected = model(**data)
    data['inputs']['text'][1] = 10**9  # no word at all
    data['inputs']['image'][2] = float('nan')
    assert torch.equal(model(**data), expected)
    data = model.data_preprocessor(data)
    assert torch.equal(model(**data), expected)
    losses = model.train()(**data, mode='loss')
    sum(losses.values()).backward()
    assert set(losses) == {'loss_task', 'loss_aux_image', 'loss_aux_text'}
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('encode_on', ['present', 'all', 'dense'])
@pytest.mark.parametrize('left', ['image', 'text'])
def test_a_batch_may_lack_either(left, encode_on):
    model, data = host(encode_on=encode_on).eval(), batch()
    present = torch.zeros(3, 2, dtype=torch.bool)
    present[:, model.modalities.index(left)] = True
    with torch.no_grad():
        expected = model(**{**data, 'present': present})
        assert torch.equal(model({left: data['inputs'][left]}), expected)


def test_half_precision_agrees_with_single():
    model, data = host().eval(), batch()
    with torch.no_grad():
        expected = model(**data)
        with torch.autocast('cpu', torch.bfloat16):
            half = model(**data)
    torch.testing.assert_close(half.float(), expected, atol=0.05, rtol=0.05)
