"""CREMA-D, AVE, VGGSound and Kinetics-Sounds, on tiny files in their layouts."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from registry import DATASETS, InputError, NameNotFound
from zoo.datasets import CREMAD, MultimodalDataset


def paint(folder, count, size=(20, 16), name='{:05d}.jpg', step=20):
    """Frames in grey, each brighter than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new('L', size, step * i).convert('RGB').save(folder / name.format(i), quality=95)


def sound(file, seconds=0.1, rate=8000):
    file.parent.mkdir(parents=True, exist_ok=True)
    wave = np.sin(np.arange(int(seconds * rate)) * 0.3) * 8000
    wavfile.write(file, rate, wave.astype(np.int16))


def features(file, shape, value=0.0):
    file.parent.mkdir(parents=True, exist_ok=True)
    x = np.full(shape, value, np.float32)
    file.write_bytes(pickle.dumps(x)) if file.suffix == '.pkl' else np.save(file, x)


def build(kind, root, **arguments):
    return DATASETS.build({'type': kind, 'root': str(root), 'size': 12, **arguments})


def shapes(sample):
    return {m: tuple(x.shape) for m, x in sample['inputs'].items()}


@pytest.fixture
def cremad(tmp_path):
    """Ten clips for training, two for testing, of three frames each; the lists as OGM-GE has them."""
    for split, actors in (('train', range(10)), ('test', (10, 11))):
        lines = []
        for i in actors:
            emotion = ('NEU', 'HAP', 'SAD', 'FEA', 'DIS', 'ANG')[i % 6]
            name = f'10{i:02d}_IOM_{emotion}_XX'
            sound(tmp_path / 'AudioWAV' / f'{name}.wav')
            paint(tmp_path / 'Image-01-FPS' / name, 3)
            lines.append(f'{name},{emotion}')
        (tmp_path / f'{split}.csv').write_text('\n'.join(lines) + '\n', encoding='utf-8-sig')
    return tmp_path


def test_cremad_gives_a_spectrogram_and_the_middle_frame(cremad):
    data = build('CREMAD', cremad, split='test', size=(10, 12))
    assert (len(data), data.classes) == (2, ('NEU', 'HAP', 'SAD', 'FEA', 'DIS', 'ANG'))
    assert data.channels == {'audio': 1, 'visual': 3}
    sample = data[0]
    assert shapes(sample) == {'audio': (1, 257, 299), 'visual': (3, 10, 12)}
    assert sample['inputs']['visual'].unique().tolist() == [20]
    assert (sample['target'], sample['present'].tolist()) == (4, [True, True])
    assert data.source(0) == f'{cremad / "test.csv"}:1 (1010_IOM_DIS_XX)'
    assert data.label_counts()[0].tolist() == [0, 0, 0, 0, 1, 1]


def test_statistics_and_geometry_of_pictures_leave_the_spectrogram_alone(cremad):
    names = build('CREMAD', cremad).transforms
    assert [type(t).__name__ for t in names] == ['RandomResizedCrop', 'RandomFlip']
    plain = build('CREMAD', cremad, augment=False)
    again = build('CREMAD', cremad, augment=True, transforms=[dict(type='RandomFlip', direction='vertical', p=1)])
    assert torch.equal(plain[3]['inputs']['audio'], again[3]['inputs']['audio'])
    assert abs(plain[3]['inputs']['audio'].mean()) < 1e-5


def test_training_takes_frames_from_anywhere_in_equal_parts_and_testing_their_middle(cremad):
    paint(cremad / 'Image-01-FPS' / '1000_IOM_NEU_XX', 12)
    visual = build('CREMAD', cremad, frames=3, modalities='visual')
    seen = torch.stack([visual[0]['inputs']['visual'].amax((0, 2, 3)) for _ in range(30)])
    assert visual[0]['inputs']['visual'].shape == (3, 3, 12, 12)
    for part in range(3):
        assert {round(x / 20) for x in seen[:, part].tolist()} == set(range(4 * part, 4 * part + 4))
    still = build('CREMAD', cremad, frames=3, modalities='visual', augment=False)
    assert still[0]['inputs']['visual'][0, :, 0, 0].tolist() == pytest.approx([40, 120, 200], abs=2)


def test_frames_are_in_the_order_of_their_numbers_and_may_be_fewer_than_asked_for(cremad):
    folder = cremad / 'Image-01-FPS' / '1000_IOM_NEU_XX'
    for file in folder.iterdir():
        file.unlink()
    paint(folder, 11, name='{}.jpg')
    data = build('CREMAD', cremad, frames=11, modalities='visual', augment=False)
    assert data[0]['inputs']['visual'][0, :, 0, 0].tolist() == pytest.approx([20 * i for i in range(11)], abs=2)
    assert data[1]['inputs']['visual'].shape == (3, 11, 12, 12)


def test_a_validation_part_is_taken_from_the_list_of_training(cremad):
    train, val = (build('CREMAD', cremad, split=s, val_fraction=0.2) for s in ('train', 'val'))
    assert (len(train), len(val)) == (8, 2)
    assert not set(train.names) & set(val.names)
    assert train.list == val.list
    assert [type(t).__name__ for t in val.transforms] == ['Resize']
    with pytest.raises(InputError, match=r'train\.csv: there is no validation split; val_fraction=0\.1'):
        build('CREMAD', cremad, split='val')


def test_features_and_folders_of_other_preparations(cremad):
    for name in build('CREMAD', cremad, split='test').names:
        features(cremad / 'audio_pt' / f'{name}.npy', (1, 257, 188))
        paint(cremad / 'test_img' / name, 1)
    folders = dict(audio='audio_pt', visual='{split}_img')
    data = build('CREMAD', cremad, split='test', folders=folders, recipe='ogm_ge_cremad')
    data.check_annotations()
    assert shapes(data[1])['audio'] == (1, 257, 188)
    data = build('CREMAD', cremad, split='test', folders=folders)
    message = r"audio_pt/1010_IOM_DIS_XX\.npy: a spectrogram of 257x188, expected 257x299 .* recipe='ogm_ge_cremad'"
    with pytest.raises(InputError, match=message):
        data[0]
    with pytest.raises(InputError, match=message):
        data.check_annotations()


def test_a_clip_without_a_file_is_an_error_absent_or_left_out(cremad):
    (cremad / 'AudioWAV' / '1001_IOM_HAP_XX.wav').unlink()
    for file in (cremad / 'Image-01-FPS' / '1002_IOM_SAD_XX').iterdir():
        file.unlink()
    message = r"train\.csv:2: 1001_IOM_HAP_XX has no audio, expected .*1001_IOM_HAP_XX\.wav \(\.npy.*'absent' takes"
    with pytest.raises(InputError, match=message):
        build('CREMAD', cremad)
    with pytest.raises(
        InputError, match=r'train\.csv:3: 1002_IOM_SAD_XX has no visual, expected the folder .* a frame'
    ):
        build('CREMAD', cremad, modalities='visual')
    with pytest.warns(UserWarning, match=r'of 10 clips 1 have no audio, 1 have no visual; 0 are left out\.'):
        data = build('CREMAD', cremad, on_missing='absent')
    assert data.presence().tolist() == [[True, True], [False, True], [True, False]] + [[True, True]] * 7
    assert shapes(data[1]) == {'visual': (3, 12, 12)}
    assert shapes(data[2]) == {'audio': (1, 257, 299)}
    with pytest.warns(UserWarning, match=r'2 are left out\.'):
        data = build('CREMAD', cremad, on_missing='skip')
    assert len(data) == 8
    with pytest.warns(UserWarning, match=r'1 have no audio; 1 are left out\.'):
        data = build('CREMAD', cremad, on_missing='absent', modalities='audio')
    assert len(data) == 9


def test_where_no_clip_has_its_files_the_first_place_is_told(cremad):
    (cremad / 'AudioWAV' / 'x').mkdir()
    with pytest.raises(InputError, match=r'2 are left out\. The first one was looked for as .*AudioWAV/x/1010_IOM'):
        build('CREMAD', cremad, split='test', on_missing='skip', folders=dict(audio='AudioWAV/x'))


@pytest.mark.parametrize(
    ('line', 'error', 'message'),
    [
        ('1001_IOM_HAP_XX', InputError, r'train\.csv:11: expected "clip,emotion", got \'1001_IOM_HAP_XX\''),
        ('1001_IOM_HAP_XX,HAP,1', InputError, r'train\.csv:11: expected "clip,emotion"'),
        ('1001_IOM_HAP_XX,HAPPY', NameNotFound, r"No emotion \(.*train\.csv:11\) named 'HAPPY'\. Did you mean 'HAP'"),
    ],
)
def test_a_wrong_line_is_named(cremad, line, error, message):
    with open(cremad / 'train.csv', 'a') as file:
        file.write(line)
    with pytest.raises(error, match=message):
        build('CREMAD', cremad)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(root='nowhere'), InputError, r'CREMAD: no folder nowhere\. The sound is at https'),
        (dict(split='dev'), NameNotFound, "No split of CREMAD named 'dev'"),
        (dict(modalities='video'), NameNotFound, "No modality of CREMAD named 'video'"),
        (dict(frames=0), InputError, 'CREMAD: frames is a whole number of at least 1, got 0'),
        (dict(on_missing='skipp'), NameNotFound, "named 'skipp'. Did you mean 'skip'"),
        (dict(folders=dict(sound='x')), NameNotFound, "CREMAD .in folders. named 'sound'"),
        (dict(folders='x'), InputError, r'CREMAD \(in folders\): expected dict\(name=path'),
        (dict(folders=dict(audio='x')), InputError, 'CREMAD: no folder .*x'),
        (dict(folders=dict(visual='x')), InputError, 'CREMAD: no folder .*x'),
        (dict(lists=dict(train='x.csv')), InputError, r'CREMAD: no list .*x\.csv\. The sound'),
        (dict(recipe='fd_cmk'), NameNotFound, "Did you mean 'fd_cmkd'"),
        (dict(size=0), InputError, 'A size is an integer'),
        (dict(val_fraction=1), InputError, 'val_fraction is a share'),
        (dict(frame=3), InputError, "no argument 'frame'. Did you mean 'frames'"),
    ],
)
def test_a_wrong_argument_is_refused(cremad, arguments, error, message):
    with pytest.raises(error, match=message):
        build('CREMAD', **{'root': cremad, **arguments})


def test_sets_of_sound_and_of_pictures_can_be_one(cremad):
    part = dict(type='CREMAD', root=str(cremad), size=12)
    parts = dict(voice=dict(**part, modalities='audio'), face=dict(**part, modalities='visual'))
    both = DATASETS.build(dict(type='UnpairedMulti', datasets=parts, transforms=[dict(type='Resize', size=9)]))
    assert shapes(both[0]) == {'voice': (1, 257, 299), 'face': (3, 9, 9)}


def test_unreadable_files_are_named(cremad):
    data = build('CREMAD', cremad, augment=False)
    (cremad / 'AudioWAV' / '1000_IOM_NEU_XX.wav').write_bytes(b'no sound')
    with pytest.raises(InputError, match=r'1000_IOM_NEU_XX\.wav: can not be read as a WAV file'):
        data[0]
    (cremad / 'AudioWAV' / '1001_IOM_HAP_XX.wav').unlink()
    with pytest.raises(InputError, match=r'1001_IOM_HAP_XX\.wav: no such file any more'):
        data[1]
    folder = cremad / 'Image-01-FPS'
    (folder / '1002_IOM_SAD_XX' / '00001.jpg').write_bytes(b'no image')
    with pytest.raises(InputError, match=r'1002_IOM_SAD_XX/00001\.jpg: can not be read as an image'):
        data[2]
    for file in (folder / '1004_IOM_DIS_XX').iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r'1004_IOM_DIS_XX: the folder holds no frame'):
        data[4]
    for file in (folder / '1005_IOM_ANG_XX').iterdir():
        file.unlink()
    (folder / '1005_IOM_ANG_XX').rmdir()
    with pytest.raises(InputError, match=r'1005_IOM_ANG_XX: the folder of frames can not be read'):
        data[5]
    paint(folder / '1004_IOM_DIS_XX', 3)
    paint(folder / '1005_IOM_ANG_XX', 3)
    Image.new('RGB', (30, 20)).save(folder / '1003_IOM_FEA_XX' / '00000.jpg')
    with pytest.raises(
        InputError, match=r'1003_IOM_FEA_XX: its frames differ in size \(H, W\): \[\(16, 20\), \(20, 30'
    ):
        build('CREMAD', cremad, augment=False, frames=3, modalities='visual')[3]
    (cremad / 'test.csv').write_text('\n')
    with pytest.raises(InputError, match=r'test\.csv: the list is empty'):
        build('CREMAD', cremad, split='test')


def test_files_are_read_without_the_data_set(cremad):
    file = cremad / 'AudioWAV' / '1000_IOM_NEU_XX.wav'
    assert CREMAD.read_input('audio', file, size=12).shape == (1, 257, 299)
    assert CREMAD.read_input('audio', file, recipe='ogm_ge_cremad').shape == (1, 257, 188)
    assert CREMAD.read_input('visual', cremad / 'Image-01-FPS' / '1000_IOM_NEU_XX' / '00001.jpg').shape == (3, 16, 20)
    with pytest.raises(InputError, match=r'x\.wav: no such file'):
        CREMAD.read_input('audio', cremad / 'x.wav')
    assert CREMAD.own_sizes(frames=3, size=(8, 9)) == {'audio': (257, 299), 'visual': (3, 8, 9)}
    assert CREMAD.own_sizes(recipe='ogm_ge_vggsound', root='x') == {'audio': (129, 626)}
    assert MultimodalDataset.own_sizes() == {}


@pytest.fixture
def ave(tmp_path):
    lists = {
        'train': ['Horse&a&good&0&10', 'Male speech, man speaking&b&good&1&5', 'Bark&a&good&0&10'],
        'val': ['Bark&c&good&0&10'],
        'test': ['Accordion&d&good&0&10', 'Category&VideoID&Quality&StartTime&EndTime'],
    }
    for split, lines in lists.items():
        (tmp_path / f'{split}Set.txt').write_text('\n'.join(lines) + '\n')
    for i, name in enumerate('abcd'):
        features(tmp_path / 'Audio-1004-SE' / f'{name}.pkl', (257, 1004), i)
        paint(tmp_path / 'Image-01-FPS-SE' / name, 2)
    return tmp_path


def test_ave_keeps_one_of_each_video_and_sorts_the_classes_of_all_lists(ave):
    data = build('AVE', ave)
    assert data.classes == ('Accordion', 'Bark', 'Horse', 'Male speech, man speaking')
    assert data.names == ['a', 'b']
    assert [s['target'].item() for s in data] == [2, 3]
    assert data[1]['inputs']['audio'].unique().tolist() == [1]
    assert build('AVE', ave, split='val').names == ['c']
    assert build('AVE', ave, split='test').classes == data.classes


def test_ave_pads_a_spectrogram_and_never_repeats_it(ave):
    x = np.random.default_rng(0).random((257, 1004)).astype(np.float32)
    (ave / 'Audio-1004-SE' / 'd.pkl').write_bytes(pickle.dumps(x))
    audio = build('AVE', ave, split='test', columns=1024)[0]['inputs']['audio']
    assert audio.shape == (1, 257, 1024)
    assert np.array_equal(audio[0, :, :1004].numpy(), x)


def test_ave_has_a_validation_split_of_its_own_and_says_which_line_is_wrong(ave):
    with pytest.raises(InputError, match=r'AVE has a validation split of its own: leave val_fraction=0\.1 out'):
        build('AVE', ave, split='val', val_fraction=0.1)
    (ave / 'valSet.txt').write_text('Bark&c&good\nBark\n')
    with pytest.raises(InputError, match=r'valSet\.txt:2: expected "category&video&\.\.\.", got \'Bark\''):
        build('AVE', ave)
    (ave / 'valSet.txt').unlink()
    with pytest.raises(InputError, match=r'AVE: no list .*valSet\.txt\. The videos and lists'):
        build('AVE', ave)


@pytest.fixture
def vggsound(tmp_path):
    """Two clips for training and two for testing that are there; one with three frames, one that vanished."""
    lines = [
        'aa,30,"playing drums, loudly",train',
        'bb,0,barking,train',
        'cc,7,zither,train',
        'dd,12,barking,test',
        'ee,1,"playing drums, loudly",test',
        'ff,1,airplane,test',
    ]
    (tmp_path / 'vggsound.csv').write_text('\n'.join(lines) + '\n')
    for name, count in (('aa_30', 4), ('bb_000000', 5), ('cc_7', 3), ('dd_12', 4), ('ee_1', 4)):
        features(tmp_path / f'{name}.npy', (257, 1004))
        paint(tmp_path / name, count)
    return tmp_path


def test_vggsound_numbers_the_classes_of_its_table_and_skips_short_clips(vggsound):
    with pytest.warns(UserWarning, match=r'VGGSound train in .*: of 3 clips 1 have no visual; 1 are left out'):
        train = build('VGGSound', vggsound)
    assert train.classes == ('airplane', 'barking', 'playing drums, loudly', 'zither')
    assert [s['target'].item() for s in train] == [2, 1]
    assert shapes(train[1]) == {'audio': (1, 257, 1004), 'visual': (3, 12, 12)}
    with pytest.warns(UserWarning, match=r'of 3 clips 1 have no audio, 1 have no visual; 1 are left out'):
        test = build('VGGSound', vggsound, split='test', on_missing='absent')
    assert test.classes == train.classes
    assert test.names == ['dd_12', 'ee_1']
    with pytest.raises(
        InputError, match=r'csv:3: cc_7 has no visual, expected the folder .*cc_7 with at least 4 frames'
    ):
        build('VGGSound', vggsound, on_missing='error')


def test_vggsound_takes_five_seconds_of_a_sound(vggsound):
    (vggsound / 'dd_12.npy').unlink()
    sound(vggsound / 'dd_12.wav', 6)
    arguments = dict(recipe='ogm_ge_vggsound', modalities='audio', split='test')
    with pytest.warns(UserWarning, match='1 have no audio'):
        data, moving = (build('VGGSound', vggsound, **arguments, augment=a) for a in (False, True))
    assert data[0]['inputs']['audio'].shape == (1, 129, 626)
    assert torch.equal(data[0]['inputs']['audio'], data[0]['inputs']['audio'])
    assert not torch.equal(moving[0]['inputs']['audio'], moving[0]['inputs']['audio'])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('aa,30,x', r'vggsound\.csv:1: expected "video,start,class,split", got \'aa,30,x\''),
        ('id,start,class,split\naa,30,x,val', r"vggsound\.csv:2: the split is train or test, got 'val'"),
        ('aa,30,x,test', r"vggsound\.csv: it has no clip of the split 'train'"),
    ],
)
def test_a_wrong_table_of_vggsound_is_named(vggsound, text, message):
    (vggsound / 'vggsound.csv').write_text(text)
    with pytest.raises(InputError, match=message):
        build('VGGSound', vggsound)


@pytest.fixture
def kinetics(tmp_path):
    lines = {'train': ['train/x.1.mp4 9 2', 'y 1 0', 'z 3 0'], 'test': ['w 1']}
    for split, rows in lines.items():
        (tmp_path / f'{split}.txt').write_text('\n'.join(rows) + '\n')
    for name in ('x.1', 'y', 'z', 'w'):
        features(tmp_path / 'audio' / f'{name}.npy', (128, 96))
        paint(tmp_path / 'visual' / name, 2)
    return tmp_path


def test_kinetics_sounds_reads_features_of_a_shape_of_its_own_and_the_label_at_the_end(kinetics):
    data = build('KineticsSounds', kinetics, shape=(128, 96), frames=2)
    assert data.names == ['x.1', 'y', 'z']
    assert [s['target'].item() for s in data] == [2, 0, 0]
    assert shapes(data[0]) == {'audio': (1, 128, 96), 'visual': (3, 2, 12, 12)}
    assert data.classes == ('0', '1', '2')
    with pytest.raises(
        InputError, match=r'x\.1\.npy: a spectrogram of 128x96, expected 257x1004 .* say shape=\(F, T\)'
    ):
        build('KineticsSounds', kinetics)[0]


def test_kinetics_sounds_sorts_names_and_may_have_a_list_of_validation(kinetics):
    (kinetics / 'train.txt').write_text('y tapping\nz archery\n')
    (kinetics / 'test.txt').write_text('w bowling\n')
    (kinetics / 'val.txt').write_text('x.1 archery\n')
    data = build('KineticsSounds', kinetics, split='val', shape=(128, 96), lists=dict(val='val.txt'))
    assert (data.names, data.classes) == (['x.1'], ('archery', 'bowling', 'tapping'))
    assert data[0]['target'] == 0
    (kinetics / 'test.txt').write_text('w\n')
    with pytest.raises(InputError, match=r'test\.txt:1: expected "clip \.\.\. label", got \'w\''):
        build('KineticsSounds', kinetics)
