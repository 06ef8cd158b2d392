"""Cached arrays: found where they belong, whole or not at all."""

import errno
import os
import zlib

import numpy as np
import pytest

from registry import InputError
from zoo.datasets import cache

PAIR = np.dtype([('x', 'u1', (2, 3)), ('y', '<f4')])


@pytest.fixture
def records():
    made = np.zeros(5, PAIR)
    made['x'] = np.arange(30, dtype='u1').reshape(5, 2, 3)
    made['y'] = np.linspace(-1, 1, 5)
    return made


def write(path, records):
    cache.write_array(path, PAIR, records.shape, [records[:2], records[2:]])


def test_what_is_written_in_parts_is_read_back_memory_mapped(tmp_path, records):
    path = tmp_path / 'new' / 'a.npy'
    write(path, records)
    array = cache.open_array(path)
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, records)
    assert cache.is_intact(path, PAIR, (5,))
    assert os.listdir(path.parent) == ['a.npy']


def test_an_array_is_complete_whatever_it_holds(tmp_path, records):
    path = tmp_path / 'a.npy'
    assert not cache.is_complete(path, PAIR, (5,))
    write(path, records)
    spoiled = bytearray(path.read_bytes())
    spoiled[-10] ^= 1
    path.write_bytes(spoiled)
    assert cache.is_complete(path, PAIR, (5,))
    assert not cache.is_intact(path, PAIR, (5,))
    assert not cache.is_complete(path, PAIR, (4,))
    path.write_bytes(spoiled[:-1])
    assert not cache.is_complete(path, PAIR, (5,))


def test_the_checksum_is_the_crc_of_the_data(tmp_path, records):
    path = tmp_path / 'a.npy'
    write(path, records)
    assert path.read_bytes()[-4:] == zlib.crc32(records.tobytes()).to_bytes(4, 'little')


def damage_truncated(data):
    return data[:-7]


def damage_only_checksum_missing(data):
    return data[:-4]


def damage_one_bit(data):
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


def damage_longer(data):
    return data + b'\0'


def damage_garbage(data):
    return b'not an array at all' * 20


def damage_empty(data):
    return b''


@pytest.mark.parametrize(
    'damage',
    [
        damage_truncated,
        damage_only_checksum_missing,
        damage_one_bit,
        damage_longer,
        damage_garbage,
        damage_empty,
    ],
)
def test_a_damaged_file_is_not_intact(tmp_path, records, damage):
    path = tmp_path / 'a.npy'
    write(path, records)
    path.write_bytes(damage(path.read_bytes()))
    assert not cache.is_intact(path, PAIR, (5,))


def test_a_missing_file_or_another_type_or_shape_is_not_intact(tmp_path, records):
    path = tmp_path / 'a.npy'
    assert not cache.is_intact(path, PAIR, (5,))
    write(path, records)
    assert not cache.is_intact(path, PAIR, (4,))
    assert not cache.is_intact(path, np.dtype([('x', 'u1', (3, 2)), ('y', '<f4')]), (5,))


def test_a_failure_half_way_leaves_neither_file_nor_rest(tmp_path, records):
    def parts():
        yield records[:2]
        raise OSError(errno.ENOSPC, 'No space left on device')

    path = tmp_path / 'a.npy'
    write(path, records)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r'a\.npy: .*No space left.*COUNTERPOISE_CACHE'):
        cache.write_array(path, PAIR, (5,), parts())
    assert os.listdir(tmp_path) == ['a.npy']
    assert path.read_bytes() == before


def test_an_interruption_half_way_leaves_nothing(tmp_path, records):
    def parts():
        yield records[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.write_array(tmp_path / 'a.npy', PAIR, (5,), parts())
    assert os.listdir(tmp_path) == []


def test_a_reader_keeps_its_file_when_another_process_replaces_it(tmp_path, records):
    path = tmp_path / 'a.npy'
    write(path, records)
    array = cache.open_array(path)
    write(path, np.zeros(5, PAIR))
    np.testing.assert_array_equal(array, records)
    np.testing.assert_array_equal(cache.open_array(path), np.zeros(5, PAIR))


def test_a_folder_that_can_not_be_made_says_what_to_set(tmp_path, records):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='COUNTERPOISE_CACHE or root'):
        write(tmp_path / 'file' / 'a.npy', records)


def test_the_folder_is_root_then_the_variable_then_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.delenv('COUNTERPOISE_CACHE', raising=False)
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    assert cache.cache_folder() == tmp_path / '.cache' / 'counterpoise'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert cache.cache_folder() == tmp_path / 'xdg' / 'counterpoise'
    monkeypatch.setenv('COUNTERPOISE_CACHE', str(tmp_path / 'ours'))
    assert cache.cache_folder() == tmp_path / 'ours'
    assert cache.cache_folder('~/here') == tmp_path / 'here'
