"""How public sets of medical images lie on the disk: facts in a table, and the one way to read them."""

import csv
import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from registry import InputError

from .listing import Files, list_files


class Entry(NamedTuple):
    """One image of a set."""

    file: str
    label: int
    name: str  # '<class>/<stem>'
    group: str  # what must not be torn apart by a division; the name where an image stands for itself


@dataclass(frozen=True)
class Folders:
    """A folder of images for each class.

    Attributes:
        places: Patterns below the root in which ``{}`` stands for what the files call the class; all that match are
            read, at least one must.
        group: A pattern; its first group, searched in ``<class>/<stem>``, is the image's group.
    """

    places: tuple[str, ...]
    group: str = ''


@dataclass(frozen=True)
class Table:
    """A table of labels, and folders of images beside it.

    Attributes:
        files: Patterns of the table below the root, a file of comma-separated values; the first one found is read.
        images: Pattern of the folders of images, relative to that of the table.
        key: The column with the names of the images, with or without suffix.
        label: The column with what the files call the class.
        group: The column with the image's group.
        values: What the table calls the classes, where it is not what the folders do.
    """

    files: tuple[str, ...]
    images: str
    key: str
    label: str
    group: str = ''
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """One public set.

    Attributes:
        classes: The name of each class to what the files call it, in the order of their numbers.
        source: Where the images are that are divided at random.
        published: The number of images there.
        official: Splits of its own, and where their images are.
    """

    classes: Mapping[str, str]
    source: Folders | Table
    published: int | None = None
    official: Mapping[str, Folders | Table] = field(default_factory=dict)


def _same(*names: str) -> dict[str, str]:
    return {n: n for n in names}


LAYOUTS = {
    'nickparvar': Layout(
        _same('glioma', 'meningioma', 'notumor', 'pituitary'),
        Folders(('Training/{}', 'Testing/{}')),  # its own division is given up: published work merges the two
        published=7023,
    ),
    'iq_othnccd': Layout(
        {'benign': 'Bengin', 'malignant': 'Malignant', 'normal': 'Normal'},  # as it is spelled there
        Folders(('{} cases',)),
        published=1097,
    ),
    'tuberculosis': Layout(
        {'normal': 'Normal', 'tuberculosis': 'Tuberculosis'},
        Folders(('{}',)),
        published=4200,
    ),
    'bccd': Layout(
        {n: n.upper() for n in ('eosinophil', 'lymphocyte', 'monocyte', 'neutrophil')},
        Folders(('images/TRAIN/{}',), group=r'(.*/_\d+)_\d+$'),  # _<number of the original>_<random>: augmented copies
        published=9957,
    ),
    'ham10000': Layout(
        _same('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc'),
        Table(('HAM10000_metadata.csv',), 'HAM10000_images*', key='image_id', label='dx', group='lesion_id'),
        published=10015,
    ),
    'sipakmed': Layout(
        {
            n.lower(): n
            for n in ('Dyskeratotic', 'Koilocytotic', 'Metaplastic', 'Parabasal', 'Superficial-Intermediate')
        },
        Folders(('im_{}/CROPPED', 'im_{}/im_{}/CROPPED'), group=r'(.*/\d+)_\d+$'),  # <slide>_<cell>
        published=4049,
    ),
    'kather2016': Layout(
        {
            n.lower(): f'{i:02d}_{n}'
            for i, n in enumerate(
                ('TUMOR', 'STROMA', 'COMPLEX', 'LYMPHO', 'DEBRIS', 'MUCOSA', 'ADIPOSE', 'EMPTY'), start=1
            )
        },
        # <random>_CRC-Prim-HE-<slide>_<region>.tif_Row_... : ten slides alone could not be divided class by class
        Folders(
            ('Kather_texture_2016_image_tiles_5000/{}', '{}'), group=r'(CRC-Prim-HE-\d+(?:_\d+)?)'
        ),
        published=5000,
    ),
    'cnmc2019': Layout(
        {'leukemia': 'all', 'normal': 'hem'},
        Folders(('fold_[0-2]/{}', '*/fold_[0-2]/{}'), group=r'/UID_(H?\d+)_'),  # the patient
        published=10661,
        official={
            'test': Table(
                tuple(f'{p}C-NMC_test_prelim_phase_data_labels.csv' for p in ('', '*/')),
                'C-NMC_test_prelim_phase_data',
                key='new_names',
                label='labels',
                values={'leukemia': '1', 'normal': '0'},
            )
        },
    ),
    'kvasir': Layout(
        _same(
            'dyed-lifted-polyps',
            'dyed-resection-margins',
            'esophagitis',
            'normal-cecum',
            'normal-pylorus',
            'normal-z-line',
            'polyps',
            'ulcerative-colitis',
        ),
        Folders(('{}', 'kvasir-dataset/{}')),
        published=4000,
    ),
}  # fmt: skip


def read_source(
    root: Path, source: Folders | Table, classes: Mapping[str, str], owner: str, group: str | None = None
) -> list[Entry]:
    """The images of a set, in the order of their names.

    Args:
        root: Its folder.
        source: Where they are.
        classes: See `Layout`.
        owner: What messages begin with.
        group: A pattern as in `Folders` that takes the place of the source's own; '' for no groups.

    Raises:
        InputError: A missing folder or table, a class without image, a name in which there is no group, two images of
            one name, or a row that names no image or no class.
    """
    if isinstance(source, Table):
        found, pattern = _read_table(root, source, classes, owner), group
    else:
        found, pattern = _read_folders(root, source, classes, owner), source.group if group is None else group
    found.sort(key=lambda e: e.name)
    if pattern is not None:
        found = [e._replace(group=group_of(e.name, pattern, e.file)) for e in found]
    return found


def group_of(name: str, pattern: str, file: str) -> str:
    """What the first group of a pattern finds in a name; the name itself where there is no pattern.

    >>> group_of('parabasal/012_03', r'(.*/[0-9]+)_', '012_03.bmp')
    'parabasal/012'

    Raises:
        InputError: It finds nothing.
    """
    if not pattern:
        return name
    match = re.search(pattern, name)
    if match is None or match[1] is None:
        raise InputError(
            f'{file}: {name!r} does not match {pattern!r}, which says what it must stay together with; '
            "group='' divides image by image."
        )
    return match[1]


def compiled(pattern: str | None, owner: str, name: str) -> str | None:
    """``pattern`` itself.

    Raises:
        InputError: It is no regular expression with a group.
    """
    try:
        if not pattern or re.compile(pattern).groups:
            return pattern
    except (re.error, TypeError) as error:
        raise InputError(f'{owner}: {name}={pattern!r} is no regular expression ({error}).') from None
    raise InputError(f'{owner}: {name}={pattern!r} needs a group in parentheses, which is what counts.')


def _read_folders(root: Path, source: Folders, classes: Mapping[str, str], owner: str) -> list[Entry]:
    found = []
    for number, (name, folder) in enumerate(classes.items()):
        patterns = [p.replace('{}', glob.escape(folder)) for p in source.places]
        places = sorted({p for pattern in patterns for p in root.glob(pattern) if p.is_dir()})
        if not places:
            wanted = ' nor '.join(str(root / p.replace('{}', folder)) for p in source.places)
            there = ', '.join(sorted(p.name for p in root.iterdir() if p.is_dir())) or 'no folder'
            raise InputError(f'{owner}: no folder {wanted}; {root} holds {there}.')
        files = _merged(places, owner)
        if not files:
            raise InputError(f'{places[0]}: there is no image of the class {name!r}.')
        found += [Entry(file, number, f'{name}/{stem}', '') for stem, file in files.items()]
    return found


def _read_table(root: Path, source: Table, classes: Mapping[str, str], owner: str) -> list[Entry]:
    table = next((f for pattern in source.files for f in sorted(root.glob(pattern))), None)
    if table is None:
        raise InputError(f'{owner}: no table {root / source.files[0]}.')
    places = sorted(p for p in table.parent.glob(source.images) if p.is_dir())
    if not places:
        raise InputError(f'{owner}: no folder {table.parent / source.images} beside {table}.')
    files = _merged(places, owner)
    values = source.values or classes
    numbers = {value: i for i, value in enumerate(values[name] for name in classes)}
    names = list(classes)
    found: dict[str, Entry] = {}
    columns = [c for c in (source.key, source.label, source.group) if c]
    for line, row in read_rows(table, columns):
        stem, value = row[source.key], row[source.label]
        if value not in numbers:
            raise InputError(f'{table}:{line}: the {source.label} {value!r} is none of: {", ".join(numbers)}.')
        file = files.get(stem) or files.get(Path(stem).stem)
        if file is None:
            listed = ', '.join(p.name for p in places)
            raise InputError(f'{table}:{line}: there is no image {stem} in {listed} beside it.')
        name = f'{names[numbers[value]]}/{Path(file).stem}'
        if file in found:
            raise InputError(f'{table}:{line}: the image {stem} has been named before.')
        found[file] = Entry(file, numbers[value], name, row[source.group] if source.group else name)
    for number, name in enumerate(names):
        if not any(e.label == number for e in found.values()):
            raise InputError(f'{table}: there is no image of the class {name!r}.')
    return list(found.values())


def read_rows(table: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The lines of a file of comma-separated values with their numbers, of these columns, spaces around them removed.

    Raises:
        InputError: No such file, one that can not be read, or that lacks a column; a line without value in one.
    """
    try:
        with open(table, newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file)
            known = [str(n).strip() for n in reader.fieldnames or ()]
            reader.fieldnames = known
            if lacking := [c for c in columns if c not in known]:
                raise InputError(f'{table}: it has no column {lacking[0]!r}, only {", ".join(known) or "none"}.')
            rows = [(reader.line_num, {c: (row[c] or '').strip() for c in columns}) for row in reader]
    except FileNotFoundError:
        raise InputError(f'{table}: no such table.') from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f'{table}: the table can not be read ({error}).') from error
    for line, row in rows:
        if empty := [c for c, value in row.items() if not value]:
            raise InputError(f'{table}:{line}: the column {empty[0]!r} is empty.')
    return rows


def _merged(folders: Sequence[Path], owner: str) -> Files:
    """The images of several folders; one name belongs to one of them."""
    files: Files = {}
    for folder in folders:
        for stem, file in list_files(folder, owner).items():
            if stem in files:
                raise InputError(f'{file}: there is also {files[stem]}, and a name belongs to one image.')
            files[stem] = file
    return files
