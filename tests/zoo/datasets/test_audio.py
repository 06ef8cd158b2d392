"""Spectrograms against scipy's own, and files of sound of every common kind."""

import io
import pickle
import struct
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import signal
from scipy.io import wavfile

from registry import InputError, NameNotFound
from zoo.datasets.audio import RECIPES, Spectrograms, read_features, read_wave

FD = RECIPES['fd_cmkd']
CREMAD, VGG = RECIPES['ogm_ge_cremad'], RECIPES['ogm_ge_vggsound']


def chirp(recipe):
    time = torch.arange(recipe.samples, dtype=torch.float64) / recipe.sample_rate
    return (0.6 * torch.sin(600 * time * (1 + time)) + 0.3 * torch.sin(9000 * time) + 0.05).float()


@pytest.mark.parametrize(
    ('recipe', 'shape'),
    [
        (replace(FD, seconds=3.0), (257, 299)),
        (FD, (257, 1004)),
        (CREMAD, (257, 188)),
        (VGG, (129, 626)),
    ],
)
def test_the_shapes_are_those_of_the_papers(recipe, shape):
    assert recipe.shape == shape
    assert recipe(recipe.clip(chirp(recipe))).shape == shape


def test_fd_cmkd_is_scipys_power_spectrogram_standardised():
    recipe = replace(FD, seconds=3.0)
    _, _, power = signal.spectrogram(chirp(recipe).double().numpy(), 16000, nperseg=512, noverlap=353)
    expected = np.log(power + 1e-7)
    expected = (expected - expected.mean()) / expected.std()
    found = recipe(chirp(recipe))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert abs(found.mean()) < 1e-5


@pytest.mark.parametrize('recipe', [CREMAD, VGG])
def test_the_recipes_of_ogm_ge_are_the_magnitude_of_a_centred_transform(recipe):
    sound, hop = chirp(recipe), recipe.hop
    window = signal.get_window('hann', recipe.window)
    _, _, scaled = signal.stft(
        sound.double().numpy(), nperseg=recipe.window, noverlap=recipe.window - hop, boundary='even', padded=False
    )
    expected = np.log(np.abs(scaled * window.sum()) + 1e-7)
    found = recipe(sound)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    theirs = torch.stft(sound.double(), recipe.window, hop, window=torch.from_numpy(window), return_complex=True)
    torch.testing.assert_close(found, (theirs.abs() + 1e-7).log().float(), atol=1e-4, rtol=0)


def test_silence_is_finite():
    assert FD(torch.zeros(FD.samples)).abs().max() < 1e-3
    assert CREMAD(torch.zeros(CREMAD.samples)).unique().tolist() == pytest.approx([np.log(1e-7)])


def test_a_short_clip_is_repeated_and_a_loud_one_cut_off():
    recipe = replace(FD, seconds=1.0)
    wave = torch.linspace(-3, 3, 7000)
    clip = recipe.clip(wave)
    assert torch.equal(clip, wave.clamp(-1, 1).repeat(3)[:16000])
    assert torch.equal(recipe.clip(torch.arange(20000) / 20000), torch.arange(16000) / 20000)


def test_only_one_recipe_takes_a_piece_from_anywhere_and_testing_the_middle():
    wave = torch.arange(100000) / 100000
    assert VGG.clip(wave)[0] == wave[10000]
    starts = {VGG.clip(wave, anywhere=True)[0].item() for _ in range(20)}
    assert len(starts) > 10
    assert CREMAD.clip(wave, anywhere=True)[0] == 0


SAMPLES = np.array([[0.5, -0.25], [-1, 0.75], [0.25, 0.25], [0.0, -0.5]])  # frames of two channels


@pytest.mark.parametrize(
    ('dtype', 'scale', 'offset'),
    [('uint8', 128, 128), ('int16', 2**15, 0), ('int32', 2**31, 0), ('float32', 1, 0), ('float64', 1, 0)],
)
def test_whole_numbers_and_floats_are_read_alike_and_channels_averaged(tmp_path, dtype, scale, offset):
    file = tmp_path / 'a.wav'
    wavfile.write(file, 8000, (SAMPLES * scale + offset).astype(dtype))
    assert read_wave(file).tolist() == SAMPLES.mean(1).tolist()
    wavfile.write(file, 8000, (SAMPLES[:, 0] * scale + offset).astype(dtype))
    assert read_wave(file, 8000).tolist() == SAMPLES[:, 0].tolist()


def test_24_bits_are_read(tmp_path):
    with wave.open(str(tmp_path / 'a.wav'), 'wb') as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(8000)
        file.writeframes(b''.join(int(x * 2**23).to_bytes(3, 'little', signed=True) for x in SAMPLES[:, 0]))
    assert read_wave(tmp_path / 'a.wav').tolist() == SAMPLES[:, 0].tolist()


def test_another_rate_is_resampled(tmp_path):
    time = np.arange(44100) / 44100
    wavfile.write(tmp_path / 'a.wav', 44100, (np.sin(2 * np.pi * 440 * time) * 20000).astype(np.int16))
    found = read_wave(tmp_path / 'a.wav', 16000)
    assert len(found) == 16000
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000) * 20000 / 2**15
    np.testing.assert_allclose(found[200:-200].numpy(), expected[200:-200], atol=2e-3)


def written(dtype=np.int16, count=400):
    file = io.BytesIO()
    wavfile.write(file, 8000, np.arange(count).astype(dtype))
    return file.getvalue()


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'can not be read as a WAV file'),
        (b'no sound', 'can not be read as a WAV file'),
        (written()[:300], r'can not be read as a WAV file \(Reached EOF prematurely'),
        (written()[:30], 'can not be read as a WAV file'),
        (written()[:40], 'can not be read as a WAV file'),
        (written(count=0), 'a WAV file without sound'),
        (written()[:20] + struct.pack('<H', 7) + written()[22:], r'Unknown wave file format: MULAW'),
    ],
)
def test_a_file_that_is_no_sound_is_named(tmp_path, content, message):
    (tmp_path / 'a.wav').write_bytes(content)
    with pytest.raises(InputError, match=rf'a\.wav: .*{message}|a\.wav: {message}'):
        read_wave(tmp_path / 'a.wav')


def test_nan_in_a_file_of_floats_is_named(tmp_path):
    wavfile.write(tmp_path / 'a.wav', 8000, np.array([0, np.nan], np.float32))
    with pytest.raises(InputError, match=r'a\.wav: it holds NaN'):
        read_wave(tmp_path / 'a.wav')


@pytest.mark.filterwarnings('error')
def test_chunks_of_titles_do_not_disturb(tmp_path):
    plain = written()
    title = b'LIST' + struct.pack('<I', 4) + b'INFO'
    content = plain[:36] + title + plain[36:]
    (tmp_path / 'a.wav').write_bytes(content[:4] + struct.pack('<I', len(content) - 8) + content[8:])
    assert len(read_wave(tmp_path / 'a.wav')) == 400


def save(file, x):
    if file.suffix == '.npy':
        np.save(file, x)
    elif file.suffix == '.pkl':
        file.write_bytes(pickle.dumps(np.asfortranarray(x), protocol=2 + 3 * int(x.dtype == np.float32)))
    else:
        torch.save(torch.from_numpy(x), file)
    return file


@pytest.mark.parametrize('suffix', ['.npy', '.pt', '.pkl'])
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_features_are_read_from_arrays_and_tensors(tmp_path, suffix, dtype):
    x = np.random.default_rng(0).random((257, 299)).astype(dtype)
    reader = Spectrograms('CREMAD', seconds=3)
    for stored in (x, x[None]):
        found = reader.read(save(tmp_path / f'a{suffix}', stored))
        assert found.shape == (1, 257, 299)
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found[0].numpy(), x.astype(np.float32))


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        ((257, 188), r"a\.npy: a spectrogram of 257x188, expected 257x299 as 'fd_cmkd' makes of 3 s\. It is that of "),
        ((257, 188), r"recipe='ogm_ge_cremad' and 3 s"),
        ((129, 626), r"recipe='ogm_ge_vggsound' and 5 s"),
        ((257, 1004), r"recipe='fd_cmkd' and 10 s"),
        ((128, 500), r'For another preparation say shape=\(F, T\)'),
    ],
)
def test_features_of_another_recipe_are_named(tmp_path, shape, message):
    file = save(tmp_path / 'a.npy', np.zeros(shape, np.float32))
    reader = Spectrograms('CREMAD', seconds=3)
    with pytest.raises(InputError, match=message):
        reader.read(file)
    with pytest.raises(InputError, match=message):
        reader.check_header(file)


class Evil:
    def __reduce__(self):
        return print, ('run',)


def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys):
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=r'a\.pkl: .*it holds builtins\.print, and only arrays are read'):
        read_features(tmp_path / 'a.pkl')
    torch.save(Evil(), tmp_path / 'a.pt')
    with pytest.raises(InputError, match=r'a\.pt: can not be read as features'):
        read_features(tmp_path / 'a.pt')
    np.save(tmp_path / 'a.npy', np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r'a\.npy: can not be read as features'):
        read_features(tmp_path / 'a.npy')
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('x', [np.zeros(4), np.zeros((2, 3, 4)), np.zeros((2, 3), complex), np.array([['a']])])
def test_what_is_no_matrix_of_numbers_is_refused(tmp_path, x):
    with pytest.raises(InputError, match=r'a\.npy: expected one array of numbers \(F, T\), got'):
        read_features(save(tmp_path / 'a.npy', x))


def test_a_spectrogram_is_padded_at_its_end_with_silence(tmp_path):
    x = np.random.default_rng(0).random((257, 1004)).astype(np.float32)
    found = Spectrograms('AVE', columns=1024).read(save(tmp_path / 'a.npy', x))
    assert found.shape == (1, 257, 1024)
    np.testing.assert_array_equal(found[0, :, :1004].numpy(), x)
    assert found[0, :, 1004:].unique().tolist() == [x.min()]


def test_the_rate_can_be_that_of_other_preparations(tmp_path):
    wavfile.write(tmp_path / 'a.wav', 22050, np.ones(22050, np.int16))
    reader = Spectrograms('AVE', sample_rate=22050, seconds=160000 / 22050)
    assert reader.recipe.samples == 160000
    assert reader.read(tmp_path / 'a.wav').shape == (1, 257, 1004)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(recipe='fd-cmkd'), NameNotFound, "No recipe of AVE named 'fd-cmkd'. Did you mean 'fd_cmkd'"),
        (dict(seconds=0), InputError, 'AVE: seconds is a number above 0, got 0'),
        (dict(seconds='3'), InputError, 'AVE: seconds is a number above 0'),
        (dict(seconds=0.001), InputError, 'less than one window of 512 samples'),
        (dict(sample_rate=16000.0), InputError, 'sample_rate is a number above 0'),
        (dict(shape=257), InputError, r'shape is \(F, T\), frequencies and frames, got 257'),
        (dict(shape=(257, 0)), InputError, r'shape is \(F, T\)'),
        (dict(columns=1000), InputError, 'columns is a whole number of at least 1004, got 1000'),
    ],
)
def test_a_wrong_argument_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Spectrograms('AVE', **arguments)


def test_sound_is_refused_where_features_of_another_recipe_are_expected(tmp_path):
    wavfile.write(tmp_path / 'a.wav', 8000, np.ones(80, np.int16))
    with pytest.raises(InputError, match=r'a\.wav: KineticsSounds got shape'):
        Spectrograms('KineticsSounds', shape=(128, 96)).read(tmp_path / 'a.wav')
