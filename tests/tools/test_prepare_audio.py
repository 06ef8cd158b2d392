"""The preparation of spectrograms, on tiny files."""

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from registry import DATASETS, InputError


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'AudioWAV').mkdir()
    for i in range(3):
        wavfile.write(tmp_path / 'AudioWAV' / f'{i}.wav', 8000, (np.sin(np.arange(900) * (i + 1)) * 9000).astype('i2'))
    (tmp_path / 'train.csv').write_text('0,NEU\n1,HAP\n2,SAD\n')
    return tmp_path


def build(root, **arguments):
    return DATASETS.build(dict(type='CREMAD', root=str(root), modalities='audio', **arguments))


def test_spectrograms_on_disk_are_those_of_the_sound_and_only_of_their_recipe(here, root):
    command = ('prepare_audio', 'AudioWAV', '--out', 'npy', '--seconds', 3)
    code, out, err = here(*command)
    assert code == 0, err
    assert 'npy: 3 spectrograms of 257x299, 3 of them written now.' in out
    (root / 'npy' / '1.npy').unlink()
    assert '1 of them written now' in here(*command)[1]
    sound, prepared = build(root), build(root, folders=dict(audio='npy'))
    for i in range(3):
        assert torch.equal(sound[i]['inputs']['audio'], prepared[i]['inputs']['audio'])
    with pytest.raises(InputError, match=r"prepared\.json: .* 'sample_rate': 16000\}, CREMAD wants .*: 22050\}"):
        build(root, folders=dict(audio='npy'), sample_rate=22050)
    code, _, err = here(*command[:-1], 2)
    assert code == 2
    assert 'use another --out' in err
    (root / 'npy' / 'prepared.json').write_text('{')
    with pytest.raises(InputError, match=r'prepared\.json: can not be read'):
        build(root, folders=dict(audio='npy'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('nowhere',), 'no folder nowhere'),
        (('.',), 'there is no WAV file'),
        (('AudioWAV', '--recipe', 'fd_cmk'), "Did you mean 'fd_cmkd'"),
        (('AudioWAV', '--recipe', 'ogm_ge_vggsound'), 'takes a piece from anywhere in training'),
        (('AudioWAV', '--seconds', -1), 'seconds is a number above 0'),
    ],
)
def test_a_mistake_is_one_line(here, root, arguments, message):
    code, _, err = here('prepare_audio', *arguments, '--out', 'npy')
    assert code == 2
    assert message in err
    assert 'Traceback' not in err
