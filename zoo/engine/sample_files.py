"""Which files make up the samples that a user names."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from registry import InputError, unknown_name


@dataclass(frozen=True)
class SampleFiles:
    """The files of one sample.

    Attributes:
        name: Its own among all samples, whatever the case of its letters.
        files: Modality to file; absent modalities are left out.
    """

    name: str
    files: dict[str, Path]


def find_samples(
    paths: Sequence[str | Path],
    modalities: Sequence[str],
    folders: Mapping[str, str] | None = None,
    own_layout: Callable[[Path], Mapping[str, Mapping[str, Path]] | None] = lambda path: None,
) -> list[SampleFiles]:
    """The samples that paths name, each of which may be

    * a folder with a subfolder for each modality, in which the files of one sample have the same stem. A sample whose
      file is not in every subfolder lacks these modalities; other subfolders do not count;
    * a list ``*.txt``: one sample a line, ``modality=path`` pairs between blanks, paths relative to the list's folder
      and in quotes where they contain blanks. Empty lines and those that begin with ``#`` do not count;
    * a file in a folder that has the name of a modality; its partners lie in the folders beside that one. With a single
      modality any file will do.

    Args:
        paths: At least one.
        modalities: Those of the host.
        folders: Modality to another name of its folder, which comes first where both are there.
        own_layout: What a folder or file holds in a layout of its own, see `MultimodalDataset.find_files`; it is asked
            first.

    Returns:
        In the order of the paths, folders sorted by stem; none twice.

    Raises:
        InputError: A path that is none of these or does not exist, nothing in it, several files of one stem, or
            subfolders without a common stem.
        NameNotFound: A list names a modality that the host does not have.
    """
    found: list[tuple[str | None, dict[str, Path]]] = []
    folders = {m: (folders or {}).get(m, m) for m in modalities}
    by_stem = cache(_by_stem)  # a folder is listed once, not for each of its files
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f'{path}: no such file or folder.')
        if (own := own_layout(path)) is not None:
            found += _of_layout(path, own, modalities)
        elif path.is_dir():
            found += [(None, files) for files in _of_folder(path, folders)]
        elif path.suffix.lower() == '.txt':
            found += [(None, files) for files in _of_list(path, modalities)]
        else:
            found.append((None, _of_file(path, folders, by_stem)))
    distinct = {tuple(sorted((m, f.resolve()) for m, f in files.items())): (name, files) for name, files in found}
    taken: set[str] = set()
    return [SampleFiles(_unique(name or _name(files), taken), files) for name, files in distinct.values()]


def stem(file: Path) -> str:
    """A file's name without its suffix, and without that below ``.gz``.

    >>> stem(Path('t1/a.nii.gz')), stem(Path('b.c.png'))
    ('a', 'b.c')
    """
    return Path(file.stem).stem if file.suffix.lower() == '.gz' else file.stem


def _of_layout(
    path: Path, own: Mapping[str, Mapping[str, Path]], modalities: Sequence[str]
) -> list[tuple[str, dict[str, Path]]]:
    found = [(name, {m: files[m] for m in modalities if m in files}) for name, files in own.items()]
    if lacking := [name for name, files in found if not files]:
        raise InputError(f'{path}: {lacking[0]} has no modality of the host ({", ".join(modalities)}).')
    return found


def _own_folder(parent: Path, modality: str, name: str) -> Path | None:
    """The folder of a modality, by its other name or by its own."""
    return next((parent / n for n in (name, modality) if (parent / n).is_dir()), None)


def _of_folder(folder: Path, folders: Mapping[str, str]) -> list[dict[str, Path]]:
    found = {m: _own_folder(folder, m, name) for m, name in folders.items()}
    stems = {m: _by_stem(own) for m, own in found.items() if own}
    if not stems:
        inside = ', '.join(sorted(p.name for p in folder.iterdir() if p.is_dir())) or 'none'
        raise InputError(
            f'{folder}: no subfolder is named after a modality of the host ({", ".join(folders)}); it has: {inside}.'
        )
    names = sorted(set().union(*stems.values()))
    if not names:
        raise InputError(f'{folder}: there are no files in {", ".join(stems)}.')
    filled = {m: files for m, files in stems.items() if files}
    if len(filled) > 1 and all(sum(n in files for files in filled.values()) == 1 for n in names):
        examples = ', '.join(f'{m} has {min(files)!r}' for m, files in filled.items())
        raise InputError(f'{folder}: the files of a sample have the same stem in all subfolders; here {examples}.')
    return [{m: files[n] for m, files in filled.items() if n in files} for n in names]


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith('.'):
            if (name := stem(file)) in files:
                raise InputError(f'{file}: there is also {files[name].name}, and one sample has one file of each.')
            files[name] = file
    return files


def _of_list(path: Path, modalities: Sequence[str]) -> list[dict[str, Path]]:
    samples = []
    for number, line in enumerate(path.read_text(encoding='utf8', errors='surrogateescape').splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        files: dict[str, Path] = {}
        for pair in _words(line, f'{path}:{number}'):
            modality, equals, file = pair.partition('=')
            if not equals or not file:
                raise InputError(f'{path}:{number}: expected modality=path, got {pair!r}.')
            if modality not in modalities:
                raise unknown_name(f'modality (of the host, at {path}:{number})', modality, modalities)
            if modality in files:
                raise InputError(f'{path}:{number}: {modality} comes twice.')
            files[modality] = path.parent / file
            if not files[modality].is_file():
                raise InputError(f'{path}:{number}: no file {files[modality]}; paths begin at the folder of the list.')
        samples.append(files)
    if not samples:
        raise InputError(f'{path}: the list is empty.')
    return samples


def _words(line: str, where: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise InputError(f'{where}: {str(error).lower()}.') from None


def _of_file(file: Path, folders: Mapping[str, str], by_stem: Callable[[Path], dict[str, Path]]) -> dict[str, Path]:
    own = file.absolute().parent.name
    modality = next((m for m, name in folders.items() if own in (name, m)), None)
    if modality is None:
        if len(folders) == 1:
            return {next(iter(folders)): file}
        raise InputError(
            f'{file}: its folder {own!r} is no modality of the host ({", ".join(folders)}). '
            f'Write a list.txt with a line such as {next(iter(folders))}={file.name} instead.'
        )
    files = {}
    for m, name in folders.items():
        folder = _own_folder(file.parent / '..', m, name)
        partner = file if m == modality else by_stem(folder).get(stem(file)) if folder else None
        if partner is not None:
            files[m] = partner
    return files


def _name(files: dict[str, Path]) -> str:
    """The stem of the first file, its folder's name where files are called after their modality."""
    modality, file = next(iter(files.items()))
    return file.absolute().parent.name if stem(file) == modality else stem(file)


def _unique(wanted: str, taken: set[str]) -> str:
    """A name that is not taken yet."""
    name, number = wanted, 1
    while name.lower() in taken:  # some file systems do not tell A from a
        number += 1
        name = f'{wanted}_{number}'
    taken.add(name.lower())
    return name
