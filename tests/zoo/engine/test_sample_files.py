"""Which files make up the samples that a user names."""

import pytest

from registry import InputError, NameNotFound
from zoo.engine import sample_files
from zoo.engine.sample_files import find_samples

MODALITIES = ('rgb', 'depth', 'ir')


@pytest.fixture
def tree(tmp_path):
    """Make files, named relative to a folder; returns the folder."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text('')
        return tmp_path

    return make


def found(tree, *paths):
    samples = find_samples(paths, MODALITIES)
    return {
        s.name: {m: f.resolve().relative_to(tree.resolve()).as_posix() for m, f in s.files.items()} for s in samples
    }


def test_a_folder_is_matched_by_stem_and_may_lack_files(tree):
    root = tree('rgb/b.png', 'rgb/a.png', 'depth/a.tif', 'depth/c.tif', 'labels/a.png', 'rgb/.hidden')
    assert found(root, root) == {
        'a': {'rgb': 'rgb/a.png', 'depth': 'depth/a.tif'},
        'b': {'rgb': 'rgb/b.png'},
        'c': {'depth': 'depth/c.tif'},
    }
    assert list(found(root, root)) == ['a', 'b', 'c']


def test_a_list_has_one_sample_a_line_with_paths_from_its_own_folder(tree):
    root = tree('in/rgb.png', 'in/depth.png', 'my pictures/x.png', 'other/rgb.png')
    lines = '# mine\n\nrgb=in/rgb.png depth=in/depth.png\n depth="my pictures/x.png"\nrgb=other/rgb.png\n'
    (root / 'list.TXT').write_text(lines)
    assert found(root, root / 'list.TXT') == {
        'in': {'rgb': 'in/rgb.png', 'depth': 'in/depth.png'},
        'x': {'depth': 'my pictures/x.png'},
        'other': {'rgb': 'other/rgb.png'},
    }


def test_the_partners_of_a_file_lie_in_the_folders_beside_it(tree, monkeypatch):
    root = tree('rgb/a.png', 'depth/a.tif', 'rgb/b.png', 'depth/c.png')
    expected = {'a': {'rgb': 'rgb/a.png', 'depth': 'depth/a.tif'}, 'b': {'rgb': 'rgb/b.png'}}
    assert found(root, root / 'rgb/a.png', root / 'rgb/b.png', root / 'depth/a.tif') == expected
    monkeypatch.chdir(root / 'rgb')
    assert found(root, 'a.png', 'b.png') == expected


def test_a_host_with_one_modality_takes_any_file(tree):
    root = tree('holiday/x.png')
    (sample,) = find_samples([root / 'holiday' / 'x.png'], ['rgb'])
    assert sample.files == {'rgb': root / 'holiday' / 'x.png'}


def test_names_are_unique_whatever_their_case(tree):
    root = tree('one/rgb/a.png', 'two/rgb/A.png', 'three/rgb/a.png')
    samples = find_samples([root / 'one', root / 'two' / 'rgb' / 'A.png', root / 'three'], MODALITIES)
    assert [s.name for s in samples] == ['a', 'A_2', 'a_3']


MISTAKES = {
    'nowhere': ([], 'nowhere', r'nowhere: no such file or folder'),
    'no modality': (['d/photos/a.png'], 'd', r'named after a modality of the host \(rgb, depth, ir\); it has: photos'),
    'empty': (['d/rgb/.x'], 'd', r'd: there are no files in rgb'),
    'no common stem': (['d/rgb/a_rgb.png', 'd/depth/a_depth.png'], 'd', r"rgb has 'a_rgb', depth has 'a_depth'"),
    'ambiguous': (['d/rgb/a.png', 'd/rgb/a.jpg'], 'd', r'a\.png: there is also a\.jpg'),
    'file elsewhere': (['photos/a.png'], 'photos/a.png', r"its folder 'photos' is no modality .* rgb=a\.png"),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_is_named(tree, name):
    files, path, message = MISTAKES[name]
    with pytest.raises(InputError, match=message):
        find_samples([tree(*files) / path], MODALITIES)


LINES = {
    'rgb': (InputError, r"list\.txt:2: expected modality=path, got 'rgb'"),
    'dept=x.png': (NameNotFound, r"at .*list\.txt:2\) named 'dept'\. Did you mean 'depth'"),
    'rgb=y.png': (InputError, r'list\.txt:2: no file .*y\.png; paths begin at the folder of the list'),
    'rgb=x.png rgb=x.png': (InputError, r'list\.txt:2: rgb comes twice'),
    'rgb="x.png': (InputError, r'list\.txt:2: no closing quotation'),
}


@pytest.mark.parametrize('line', LINES)
def test_a_mistake_in_a_list_names_its_line(tree, line):
    root = tree('x.png')
    error, message = LINES[line]
    (root / 'list.txt').write_text(f'rgb=x.png\n{line}\n')
    with pytest.raises(error, match=message):
        find_samples([root / 'list.txt'], MODALITIES)


def test_an_empty_list_is_refused(tree):
    (tree('x') / 'list.txt').write_text('# nothing\n')
    with pytest.raises(InputError, match='the list is empty'):
        find_samples([tree('x') / 'list.txt'], MODALITIES)


@pytest.mark.parametrize('there', [('depth', 'depth_raw'), ('depth_raw',), ('depth',)])
def test_a_data_set_may_have_another_name_for_a_folder(tmp_path, there):
    for folder in ('rgb', *there):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'a.png').touch()
    folders = {'rgb': 'rgb', 'depth': 'depth_raw'}
    expected = 'depth_raw' if 'depth_raw' in there else 'depth'
    for path in (tmp_path, tmp_path / 'rgb' / 'a.png', tmp_path / expected / 'a.png'):
        (found,) = find_samples([path], ['rgb', 'depth'], folders)
        assert {m: f.resolve().parent.name for m, f in found.files.items()} == {'rgb': 'rgb', 'depth': expected}


def test_a_folder_is_listed_once_for_all_its_files(tmp_path, monkeypatch):
    for folder in ('rgb', 'depth'):
        (tmp_path / folder).mkdir()
        for name in 'abcd':
            (tmp_path / folder / f'{name}.png').touch()
    listed = []
    monkeypatch.setattr(sample_files, '_by_stem', lambda p, f=sample_files._by_stem: listed.append(p) or f(p))
    assert len(find_samples(sorted((tmp_path / 'rgb').iterdir()), ['rgb', 'depth'])) == 4
    assert len(listed) == 1
