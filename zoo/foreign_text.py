"""The door to transformers, the optional package that has the text models and their tokenizers."""

from functools import lru_cache
from types import ModuleType
from typing import Any

from registry import InputError

EXTRA = 'counterpoise[text]'


def transformers_module() -> ModuleType:
    """The package, imported when it is needed: that takes seconds.

    Raises:
        InputError: It is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"Text needs the package transformers, which does not import ({error}): pip install '{EXTRA}'."
        ) from error
    return transformers


@lru_cache(maxsize=4)
def tokenizer_of(name: str) -> Any:
    """A tokenizer, read once for all splits of a data set.

    Args:
        name: A folder with its files, or its name on the Hugging Face Hub, from which the cache on the disk is filled.

    Raises:
        InputError: transformers is not installed, or there is no such tokenizer.
    """
    transformers = transformers_module()
    try:
        return transformers.AutoTokenizer.from_pretrained(name)
    except Exception as error:  # each kind of tokenizer and of failure has its own
        raise InputError(
            f'The tokenizer {name!r} can not be loaded ({brief(error)}). It may be a folder, or a name on the Hugging '
            'Face Hub or in its cache.'
        ) from error


def brief(error: Exception) -> str:
    """The message of an error of transformers on one line, cut off where it gets long."""
    text = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
    return text if len(text) <= 200 else f'{text[:200]} ...'
