"""Reading image files: what comes out, and which file is to blame."""

import numpy as np
import pytest
import torch
from PIL import Image

from registry import InputError
from zoo.datasets.images import orientation, read_image, read_plane


def save(path, array):
    Image.fromarray(array).save(path)
    return path


def test_grey_and_transparent_images_become_three_channels(tmp_path):
    grey, clear = tmp_path / 'grey.png', tmp_path / 'clear.png'
    Image.new('L', (5, 4), 77).save(grey)
    Image.new('RGBA', (5, 4), (10, 20, 30, 128)).save(clear)
    assert torch.equal(read_image(grey), torch.full((3, 4, 5), 77, dtype=torch.uint8))
    assert read_image(clear, grey=False)[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize('flip', [False, True])
def test_colours_keep_their_places(tmp_path, flip):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    found = read_image(save(tmp_path / 'x.png', pixels), flip_channels=flip)
    assert torch.equal(found.permute(1, 2, 0), torch.from_numpy(pixels[..., ::-1].copy() if flip else pixels))


@pytest.mark.parametrize('mode', ['L', 'LA', '1', 'I;16'])
def test_a_grey_image_is_refused_where_colour_is_needed(tmp_path, mode):
    Image.new(mode, (5, 4)).save(tmp_path / 'grey.png')
    with pytest.raises(InputError, match=r'grey\.png: expected (three channels|8 bits)'):
        read_image(tmp_path / 'grey.png', grey=False)


def with_exif(path, pixels, exif):
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize('read', [read_image, read_plane])
@pytest.mark.parametrize(('way', 'turned'), [(3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1, (0, 1)))])
def test_an_image_that_exif_turns_is_turned(tmp_path, read, way, turned):
    shape = (4, 6, 3) if read is read_image else (4, 6)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = way
    found = read(with_exif(tmp_path / 'x.png', pixels, exif))
    found = found.permute(1, 2, 0) if read is read_image else found[0]
    assert found.numpy().tolist() == turned(pixels).tolist()
    deep = with_exif(tmp_path / 'deep.png', pixels.astype(np.uint16), exif) if read is read_plane else None
    assert deep is None or read(deep)[0].tolist() == turned(pixels).tolist()


@pytest.mark.parametrize('value', [0, 9])
def test_exif_that_makes_no_sense_is_left_alone(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    file = with_exif(tmp_path / 'x.png', np.zeros((4, 6, 3), np.uint8), exif)
    assert read_image(file).shape == (3, 4, 6)
    with Image.open(file) as image:
        assert orientation(image) == 1


def test_exif_that_can_not_be_read_is_left_alone(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    found = read_image(with_exif(tmp_path / 'x.png', pixels, b'Exif\0\0garbage'))
    assert torch.equal(found, torch.from_numpy(pixels).permute(2, 0, 1))


def test_a_folder_is_no_image(tmp_path):
    for read in (read_image, read_plane):
        with pytest.raises(InputError, match='can not be read as an image'):
            read(tmp_path)


def test_an_image_of_more_than_8_bits_is_refused(tmp_path):
    file = save(tmp_path / 'deep.png', np.full((4, 5), 40000, np.uint16))
    with pytest.raises(InputError, match=r"deep\.png: expected 8 bits a channel, got an image of mode 'I"):
        read_image(file)


@pytest.mark.parametrize(('dtype', 'bits'), [(np.uint8, 8), (np.uint16, 16)])
def test_a_plane_keeps_its_values_and_bits(tmp_path, dtype, bits):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (4, 6), dtype=dtype, endpoint=True)
    file = save(tmp_path / 'x.png', pixels)
    for asked in (None, bits):
        found = read_plane(file, asked)
        assert found.dtype == {8: torch.uint8, 16: torch.uint16}[bits]
        assert found.tolist() == pixels[None].tolist()


def test_a_plane_with_a_palette_gives_its_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 3], [7, 1]], np.uint8))
    image.putpalette([9, 8, 7] * 256)
    image.save(tmp_path / 'x.png')
    assert read_plane(tmp_path / 'x.png', bits=8).tolist() == [[[0, 3], [7, 1]]]


@pytest.mark.parametrize(
    ('array', 'bits', 'message'),
    [
        (np.zeros((4, 6), np.uint8), 16, 'expected one channel of 16 bits, got 8 bits'),
        (np.zeros((4, 6), np.uint16), 8, 'expected one channel of 8 bits, got 16 bits'),
        (np.zeros((4, 6, 3), np.uint8), 16, "expected one channel of 16 bits, got an image of mode 'RGB'"),
        (np.zeros((4, 6, 3), np.uint8), None, "expected one channel of 8 or 16 bits, got an image of mode 'RGB'"),
    ],
)
def test_a_plane_of_another_kind_is_refused(tmp_path, array, bits, message):
    with pytest.raises(InputError, match=rf'x\.png: {message}'):
        read_plane(save(tmp_path / 'x.png', array), bits)


@pytest.mark.parametrize('read', [read_image, read_plane])
@pytest.mark.parametrize('keep', [0, 10, 60, 1500])
def test_a_damaged_file_is_named(tmp_path, read, keep):
    shape = (40, 60, 3) if read is read_image else (40, 60)
    file = save(tmp_path / 'x.png', np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=r'x\.png: can not be read as an image') as error:
        read(file)
    assert '\n' not in str(error.value)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        read(file)
