"""CrisisMMD in the layout of its authors: tiny tables with what tweets hold, a tokenizer of a few words."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from registry import TRANSFORMS, InputError, NameNotFound
from zoo.datasets import CrisisMMD
from zoo.engine import Runner, load_config
from zoo.engine.cost import host_cost
from zoo.engine.data import build_dataloader

CONFIG = Path(__file__).parents[3] / 'configs' / 'late_fusion' / 'bert_mobilenetv2_crisismmd.py'
HEADER = 'event_name tweet_id image_id tweet_text image label label_text label_image label_text_image'.split()
WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'fire', 'help', 'the', '"', '##s', 'bridge']
TABLE = 'crisismmd_datasplit_agreed_label/task_humanitarian_text_img_agreed_lab_{}.tsv'
TRAIN = TABLE.format('train')
ROWS = [
    ('fire "help', 'affected_individuals', 'affected_individuals', 'affected_individuals'),
    ('"fires', 'injured_or_dead_people', 'missing_or_found_people', 'vehicle_damage'),
    ('help\tthe bridge"', 'vehicle_damage', 'vehicle_damage', 'not_humanitarian'),
    ('the the\r', 'rescue_volunteering_or_donation_effort', 'other_relevant_information', 'not_humanitarian'),
]


def image(number):
    return f'data_image/california_wildfires/10_10_2017/91779104415818547{number}_0.jpg'


def write(root, rows=ROWS, table=TRAIN, header=HEADER):
    lines = ['\t'.join(header)]
    for i, (text, *labels) in enumerate(rows):
        lines.append('\t'.join(['california_wildfires', f'{i}', f'{i}_0', text, image(i), *labels, 'Positive']))
        file = root / image(i)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10 + i, 14, 3), 50 * i, np.uint8)).save(file)
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    (root / table).write_bytes('\n'.join(lines).encode() + b'\n')
    return root / table


@pytest.fixture
def words(tmp_path):
    pytest.importorskip('transformers')
    folder = tmp_path / 'words'
    folder.mkdir()
    (folder / 'vocab.txt').write_text('\n'.join(WORDS))
    (folder / 'tokenizer_config.json').write_text(json.dumps({'tokenizer_class': 'BertTokenizer'}))
    return str(folder)


def test_a_sample_is_a_picture_and_words(tmp_path, words):
    write(tmp_path)
    dataset = CrisisMMD(tmp_path, tokenizer=words, max_length=8, transforms=[{'type': 'Resize', 'size': (10, 12)}])
    assert len(dataset) == 4
    assert dataset.channels == {'image': 3, 'text': 2}
    sample = dataset[1]
    assert sample['inputs']['image'].shape == (3, 10, 12)
    assert sample['inputs']['text'].dtype == torch.int64
    assert sample['inputs']['text'].tolist() == [[2, 8, 5, 9, 3, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]]
    assert sample['info']['text'] == '"fires'
    assert sample['info']['files'] == {'image': str(tmp_path / image(1))}
    assert dataset[2]['info']['text'] == 'help\tthe bridge"'  # a tab and a quotation mark
    assert dataset[2]['inputs']['text'][0].tolist() == [2, 6, 7, 10, 8, 3, 0, 0]
    assert [int(dataset[i]['target']) for i in range(4)] == [0, 0, 2, 1]
    assert [dataset.classes[c] for c in (0, 2, 1)] == [
        'affected_individuals',
        'infrastructure_and_utility_damage',
        'rescue_volunteering_or_donation_effort',
    ]


def test_files_of_users_are_read_as_samples_are(tmp_path, words):
    write(tmp_path)
    dataset = CrisisMMD(tmp_path, tokenizer=words, max_length=8)
    (tmp_path / 'mine.txt').write_text(ROWS[2][0])
    files = {'image': tmp_path / image(2), 'text': tmp_path / 'mine.txt'}
    inputs, _ = CrisisMMD.read_files(files, root='elsewhere', tokenizer=words, max_length=8)
    for m, x in dataset[2]['inputs'].items():
        assert torch.equal(inputs[m], x)
    with pytest.raises(InputError, match='no such file'):
        CrisisMMD.read_input('text', tmp_path / 'none.txt', tokenizer=words)


def test_words_are_cut_off_and_neither_drawn_nor_moved(tmp_path, words):
    write(tmp_path)
    names = ['RandomFlip', 'RandomCrop', 'RandomRotation', 'RandomView', 'LetterBox', 'FrequencyFilter']
    arguments = {'RandomFlip': {'p': 1}, 'RandomCrop': {'size': 8}, 'LetterBox': {'size': 16}}
    arguments['FrequencyFilter'] = {'size': 3, 'kind': 'fft_low'}
    for name in names:
        transform = TRANSFORMS.build({'type': name, **arguments.get(name, {})})
        given = dict(tokenizer=words, max_length=4, transforms=[transform])
        dataset = CrisisMMD(tmp_path, modalities=['text', 'image'], **given)
        assert dataset[2]['inputs']['text'].tolist() == [[2, 6, 7, 3], [1, 1, 1, 1]]
        assert list(dataset[2]['inputs']) == ['text', 'image']
        alone = CrisisMMD(tmp_path, modalities='text', **given)
        assert alone[2]['inputs']['text'].tolist() == [[2, 6, 7, 3], [1, 1, 1, 1]]
        assert alone[2]['info']['files'] == {}


@pytest.mark.parametrize(
    ('label', 'expected'), [('label', [0, 0, 2, 1]), ('label_text', [0, 0, 2, 3]), ('label_image', [0, 2, 4, 4])]
)
def test_labels_of_all_pairs_are_those_of_a_column(tmp_path, label, expected):
    write(tmp_path, table='task_humanitarian_text_img_dev.tsv')  # the table in the root itself
    dataset = CrisisMMD(tmp_path, split='val', release='all', label=label, modalities='image')
    assert [int(dataset.load_target(i)) for i in range(4)] == expected
    assert dataset.label_counts()[0].tolist() == [expected.count(c) for c in range(5)]


def test_a_missing_image_is_an_error_or_absent(tmp_path, words):
    table = write(tmp_path)
    (tmp_path / image(3)).unlink()
    dataset = CrisisMMD(tmp_path, tokenizer=words)
    message = rf'3_0\.jpg: no such file, named at .*{table.name}:5; allow_missing=True treats it as absent'
    with pytest.raises(InputError, match=message):
        dataset[3]
    with pytest.raises(InputError, match=message):
        dataset.check_annotations()
    CrisisMMD(tmp_path, tokenizer=words, modalities='text').check_annotations()
    dataset = CrisisMMD(tmp_path, tokenizer=words, allow_missing=True)
    dataset.check_annotations()
    assert dataset[3]['present'].tolist() == [False, True]
    assert list(dataset[3]['inputs']) == ['text']
    with pytest.raises(InputError, match='no modality left'):
        CrisisMMD(tmp_path, modalities='image', allow_missing=True)[3]


@pytest.mark.parametrize(
    ('rows', 'header', 'message'),
    [
        (
            [ROWS[0], ('x', 'flood', 'x', 'x')],
            HEADER,
            r"lab_train\.tsv:3: the label 'flood' is none of: affected_indiv",
        ),
        ([('x', '', 'x', 'x')], HEADER, r"lab_train\.tsv:2: the label '' is none of"),
        ([('x', 'vehicle_damage')], HEADER, r'lab_train\.tsv:2: 7 columns where the first line has 9'),
        (ROWS, [*HEADER[:3], 'text', *HEADER[4:]], r"lab_train\.tsv: it has no column 'tweet_text', only event_name, "),
        ([], HEADER, r'lab_train\.tsv: the table is empty'),
    ],
)
def test_tables_at_fault_are_named_with_the_line(tmp_path, rows, header, message):
    write(tmp_path, rows, header=header)
    with pytest.raises(InputError, match=message):
        CrisisMMD(tmp_path, modalities='image')


def test_mistakes_are_named(tmp_path, words):
    with pytest.raises(InputError, match=r'no folder .*nowhere.*crisisnlp'):
        CrisisMMD(tmp_path / 'nowhere')
    with pytest.raises(InputError, match=r'no table .*lab_test\.tsv nor .*agreed_label.*lab_test\.tsv'):
        CrisisMMD(tmp_path, split='test')
    for wrong in ({'split': 'dev'}, {'release': 'agree'}, {'label': 'labels'}, {'modalities': 'audio'}):
        with pytest.raises(NameNotFound, match=str(next(iter(wrong.values())))):
            CrisisMMD(tmp_path, **wrong)
    write(tmp_path)
    for wrong, message in (
        ({}, 'A text needs a tokenizer'),
        ({'tokenizer': str(tmp_path / 'none')}, r"tokenizer '.*none' can not be loaded"),
        ({'tokenizer': words, 'max_length': 0}, 'max_length of a text is a whole number above 0, got 0'),
    ):
        with pytest.raises(InputError, match=message):
            CrisisMMD(tmp_path, **wrong)


def test_words_of_another_shape_are_refused(tmp_path, words):
    write(tmp_path)

    def spoil(sample):
        return {**sample, 'inputs': {**sample['inputs'], 'text': sample['inputs']['text'][None]}}

    dataset = CrisisMMD(tmp_path, tokenizer=words, max_length=4, transforms=[spoil])
    with pytest.raises(InputError, match=r'text has the shape \(1, 2, 4\), expected \(2, L\)'):
        dataset[0]


def test_a_batch_with_an_absent_picture(tmp_path, words):
    write(tmp_path)
    (tmp_path / image(0)).unlink()
    transforms = [{'type': 'Resize', 'size': (8, 12)}]
    dataset = CrisisMMD(tmp_path, tokenizer=words, max_length=6, allow_missing=True, transforms=transforms)
    loader = build_dataloader({'dataset': dataset, 'batch_size': 4}, training=False)
    (batch,) = loader
    assert {m: tuple(x.shape) for m, x in batch['inputs'].items()} == {'image': (4, 3, 8, 12), 'text': (4, 2, 6)}
    assert batch['present'].tolist() == [[False, True], [True, True], [True, True], [True, True]]


def test_the_config_counts_what_is_published(words):
    cost = host_cost(load_config(CONFIG))
    assert cost.input == {'image': [3, 224, 224], 'text': [2, 128]}
    encoder = 109_482_240 - 768 * 769  # BERT-base without its pooler
    assert cost.branches == {'image': 2_223_872, 'text': encoder}
    assert cost.parameters == sum(cost.branches.values()) + (768 + 1280) * 5 + 5
    blocks = 12 * (4 * 128 * 768**2 + 2 * 128**2 * 768 + 2 * 128 * 768 * 3072)
    assert abs(cost.macs - blocks - 299.5e6) < 1e6


def test_the_config_trains_on_tiny_files(tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ('train', 'dev', 'test'):
        write(tmp_path / 'data' / 'crisismmd', table=TABLE.format(split))
    sizes = dict(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    options = {f'model.encoder.text.{k}': v for k, v in sizes.items()}
    options |= {'model.encoder.text.pretrained': False, 'model.encoder.image.pretrained': False}
    options |= {'model.encoder.image.model': 'test_resnet', 'train_cfg.max_epochs': 1}
    for loader in ('train', 'val', 'test'):
        options |= {f'{loader}_dataloader.batch_size': 2, f'{loader}_dataloader.num_workers': 0}
        options |= {f'{loader}_dataloader.dataset.tokenizer': words, f'{loader}_dataloader.dataset.max_length': 6}
    runner = Runner(load_config(CONFIG, options=options), tmp_path / 'run', 'cpu')
    before = {n: p.detach().clone() for n, p in runner.host.named_parameters()}
    runner.train()
    moved = {n: float((p.detach() - before[n]).abs().max()) for n, p in runner.host.named_parameters()}
    assert max(moved.values()) == pytest.approx(2e-5, rel=0.1)  # two steps of Adam
    assert moved['encoders.text.model.embeddings.word_embeddings.weight'] > 1e-5
