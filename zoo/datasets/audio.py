"""Sound as spectrograms: WAV files, and features that were computed before.

Recipes are not interchangeable. They differ in the rate of the samples, the window, the hop, in power or magnitude and
in standardisation, and a host trained with one hears noise in another; hence shapes are checked file by file.
"""

import json
import math
import pickle
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from registry import InputError, unknown_name

PREPARED = 'prepared.json'  # how the spectrograms of a folder were made
SUFFIXES = ('.wav', '.npy', '.pt', '.pkl')
UNREADABLE = (OSError, ValueError, EOFError, struct.error, UnboundLocalError, ZeroDivisionError)
FLOOR = 1e-7  # what is added before the logarithm


@dataclass(frozen=True)
class Recipe:
    """How a clip of sound becomes a spectrogram of ln(x + 1e-7).

    Attributes:
        sample_rate: Samples a second; files of another rate are resampled.
        seconds: The length. What is shorter is repeated, and samples are cut to -1..1.
        window: Samples of the Fourier transform.
        hop: Samples from one to the next.
        power: The power density as `scipy.signal.spectrogram` has it by default: a Tukey window (0.25), each segment
            without its mean, no padding. Else the magnitude as `librosa.stft` has it: a Hann window, centred on frames
            that begin with the first sample, both ends mirrored.
        standardise: Subtract the mean of the clip and divide by its deviation.
        anywhere: Of what is longer a piece from anywhere in training and from the middle in testing, else its
            beginning.
    """

    sample_rate: int
    seconds: float
    window: int
    hop: int
    power: bool
    standardise: bool = False
    anywhere: bool = False

    @property
    def samples(self) -> int:
        """The length of a clip."""
        return round(self.seconds * self.sample_rate)

    @property
    def shape(self) -> tuple[int, int]:
        """Frequencies and frames."""
        padding = 0 if self.power else self.window // 2 * 2
        return self.window // 2 + 1, (self.samples + padding - self.window) // self.hop + 1

    def clip(self, wave: Tensor, anywhere: bool = False) -> Tensor:
        """``samples`` of a wave (N,), which is repeated where it is shorter.

        Args:
            wave: At ``sample_rate``.
            anywhere: Draw the place, where the recipe takes a piece from anywhere.
        """
        wave = wave.repeat(-(-self.samples // len(wave)))
        spare = len(wave) - self.samples
        if not self.anywhere:
            start = 0
        else:
            start = int(torch.randint(spare + 1, ())) if anywhere else spare // 2
        return wave[start : start + self.samples].clamp(-1, 1)

    def __call__(self, clip: Tensor) -> Tensor:
        """(samples,) in -1..1 -> (frequencies, frames), float32."""
        if not self.power:
            half = self.window // 2
            clip = F.pad(clip[None], (half, half), mode='reflect')[0]
        segments = clip.double().unfold(0, self.window, self.hop)
        if self.power:
            segments = segments - segments.mean(1, keepdim=True)
        spectrum = torch.fft.rfft(segments * self._weights).abs()
        if self.power:
            spectrum = spectrum.square() / (self.sample_rate * self._weights.square().sum())
            spectrum[:, 1 : (self.window + 1) // 2] *= 2  # the negative frequencies; of an even window one has none
        x = spectrum.T.add(FLOOR).log()
        if self.standardise:
            x = (x - x.mean()) / (x.std(correction=0) + 1e-9)
        return x.float().contiguous()

    @cached_property
    def _weights(self) -> Tensor:
        from scipy.signal import get_window

        return torch.from_numpy(get_window(('tukey', 0.25) if self.power else 'hann', self.window))


RECIPES = {
    'fd_cmkd': Recipe(16000, 10.0, 512, 159, power=True, standardise=True),
    'ogm_ge_cremad': Recipe(22050, 3.0, 512, 353, power=False),
    'ogm_ge_vggsound': Recipe(16000, 5.0, 256, 128, power=False, anywhere=True),
}


class Spectrograms:
    """Reads files of sound as spectrograms of one shape.

    A ``.wav`` goes through the recipe. ``.npy``, ``.pt`` (a tensor) and ``.pkl`` (an array) hold features (F, T) or
    (1, F, T), which are taken as they are.

    Args:
        owner: What messages begin with.
        recipe: One of `RECIPES`.
        seconds: Instead of the recipe's own.
        sample_rate: Instead of the recipe's own. The preparation of FD-CMKD's data that is in use reads 22,050 samples
            a second and cuts off 160,000 of them, which are 7.26 seconds and not 10.
        shape: (F, T) of features of another recipe; there is then no way to read a ``.wav``.
        columns: The number of frames to deliver; those that are added at the end are as quiet as the clip's quietest
            value.

    Attributes:
        shape: (F, T) as it is delivered.

    Raises:
        NameNotFound: An unknown recipe.
        InputError: An argument out of its range.
    """

    def __init__(
        self,
        owner: str,
        recipe: str = 'fd_cmkd',
        seconds: float | None = None,
        sample_rate: int | None = None,
        shape: Sequence[int] | None = None,
        columns: int | None = None,
    ) -> None:
        if recipe not in RECIPES:
            raise unknown_name(f'recipe of {owner}', recipe, RECIPES)
        self.owner, self.name = owner, recipe
        changes = {'seconds': seconds, 'sample_rate': sample_rate}
        for name, value in changes.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
            if value is not None and (not number or (name == 'sample_rate' and not isinstance(value, int))):
                raise InputError(f'{owner}: {name} is a number above 0, got {value!r}.')
        self.recipe = replace(RECIPES[recipe], **{k: v for k, v in changes.items() if v is not None})
        if self.recipe.samples < self.recipe.window:
            raise InputError(f'{owner}: seconds={seconds!r} are less than one window of {self.recipe.window} samples.')
        self.stored = self.recipe.shape if shape is None else _pair(owner, shape)
        self.computes = shape is None
        width = self.stored[1]
        if columns is not None and (not isinstance(columns, int) or columns < width):
            raise InputError(f'{owner}: columns is a whole number of at least {width}, got {columns!r}.')
        self.shape = self.stored[0], columns or width

    def read(self, file: Path, anywhere: bool = False) -> Tensor:
        """(1, F, T) float32.

        Args:
            file: The file.
            anywhere: See `Recipe.clip`.

        Raises:
            FileNotFoundError: No such file.
            InputError: One that can not be read, silence of no length, or features of another shape.
        """
        if file.suffix.lower() == '.wav':
            if not self.computes:
                raise InputError(f'{file}: {self.owner} got shape, which is for features that are computed already.')
            x = self.recipe(self.recipe.clip(read_wave(file, self.recipe.sample_rate), anywhere))
        else:
            x = read_features(file)
            self.check_shape(tuple(x.shape), file)
        if (more := self.shape[1] - x.shape[1]) > 0:
            x = F.pad(x, (0, more), value=x.min().item())
        return x[None]

    @property
    def settings(self) -> dict[str, Any]:
        """What spectrograms depend on, as `PREPARED` keeps it beside files."""
        return {'recipe': self.name, 'seconds': self.recipe.seconds, 'sample_rate': self.recipe.sample_rate}

    def check_folder(self, folder: Path) -> None:
        """Refuse a folder that ``tools/prepare_audio.py`` filled with other settings; without its note there is none.

        Raises:
            InputError: It says so, or can not be read.
        """
        file = folder / PREPARED
        if not self.computes or not file.is_file():
            return
        try:
            found = json.loads(file.read_text(encoding='utf8'))
        except (OSError, ValueError) as error:
            raise InputError(f'{file}: can not be read ({error}).') from error
        if found != self.settings:
            raise InputError(
                f'{file}: the spectrograms there were made with {found}, {self.owner} wants {self.settings}.'
            )

    def check_header(self, file: str | Path) -> None:
        """`check_shape` of a ``.npy``, from its header alone."""
        try:
            shape = np.load(file, mmap_mode='r', allow_pickle=False).shape
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f'{file}: can not be read as features ({error}).') from error
        self.check_shape(tuple(shape), file)

    def check_shape(self, shape: tuple[int, ...], file: str | Path) -> None:
        """Refuse features that another recipe made.

        Raises:
            InputError: They are of another shape.
        """
        shape = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
        if shape == self.stored:
            return
        made = f'{self.name!r} makes of {self.recipe.seconds:g} s' if self.computes else 'shape says'
        hint = 'For another preparation say shape=(F, T).'
        for name, other in RECIPES.items():
            for seconds in {other.seconds, 3.0, 10.0}:
                if shape == replace(other, seconds=seconds).shape:
                    hint = f'It is that of recipe={name!r} and {seconds:g} s.'
        raise InputError(f'{file}: a spectrogram of {_size(shape)}, expected {_size(self.stored)} as {made}. {hint}')


def read_wave(file: Path, sample_rate: int | None = None) -> Tensor:
    """The samples of a WAV file as float32 (N,), whole numbers scaled to -1..1, the mean of its channels.

    Whole numbers of 8 to 64 bits and floats are read.

    Args:
        file: The file.
        sample_rate: Resample to this many a second, by a polyphase filter.

    Raises:
        FileNotFoundError: No such file.
        InputError: It is no such file, cut off, or has no samples, or NaN.
    """
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', wavfile.WavFileWarning)  # of chunks with titles and the like
            warnings.filterwarnings('error', 'Reached EOF prematurely', wavfile.WavFileWarning)
            rate, samples = wavfile.read(file)
    except FileNotFoundError:
        raise
    except (*UNREADABLE, wavfile.WavFileWarning) as error:
        raise InputError(f'{file}: can not be read as a WAV file ({error}).') from error
    if not samples.size or not rate:
        raise InputError(f'{file}: a WAV file without sound.')
    if samples.dtype.kind in 'iu':
        half = 2.0 ** (8 * samples.itemsize - 1)  # 24 bits come as the upper ones of 32
        samples = (samples - (half if samples.dtype.kind == 'u' else 0.0)) / half
    wave = samples.mean(1, dtype=np.float64) if samples.ndim == 2 else samples.astype(np.float64)
    if not np.isfinite(wave).all():
        raise InputError(f'{file}: it holds NaN or Inf.')
    if sample_rate is not None and sample_rate != rate:
        common = math.gcd(sample_rate, rate)
        wave = resample_poly(wave, sample_rate // common, rate // common)
    return torch.from_numpy(wave.astype(np.float32))


def read_features(file: Path) -> Tensor:
    """Features in ``.npy``, ``.pt`` or ``.pkl`` as float32 (F, T); nothing else is unpickled than arrays and tensors.

    Raises:
        FileNotFoundError: No such file.
        InputError: It can not be read, or holds something else.
    """
    suffix = file.suffix.lower()
    try:
        if suffix == '.npy':
            x = np.load(file, allow_pickle=False)
        elif suffix == '.pkl':
            with open(file, 'rb') as opened:
                x = _ArrayUnpickler(opened).load()
        else:
            x = torch.load(file, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # each format has its own
        text = ' '.join(str(error).split())[:200]
        raise InputError(f'{file}: can not be read as features ({text or type(error).__name__}).') from error
    if isinstance(x, np.ndarray) and x.dtype.kind in 'fiu':
        x = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    if not isinstance(x, Tensor):
        raise InputError(f'{file}: expected one array of numbers (F, T), got {getattr(x, "dtype", type(x).__name__)}.')
    x = x[0] if x.ndim == 3 and len(x) == 1 else x
    if x.ndim != 2 or x.is_complex():
        raise InputError(f'{file}: expected one array of numbers (F, T), got {x.dtype} {tuple(x.shape)}.')
    return x.float().contiguous()


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy's arrays and refuses all else, which might run code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split('.')[0] == 'numpy' and name in ('ndarray', 'dtype', '_reconstruct', '_frombuffer'):
            return super().find_class(module, name)
        if (module, name) == ('_codecs', 'encode'):  # how protocol 2 writes bytes
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'it holds {module}.{name}, and only arrays are read')


def _pair(owner: str, shape: Sequence[int]) -> tuple[int, int]:
    pair = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(pair) != 2 or any(not isinstance(s, int) or isinstance(s, bool) or s < 1 for s in pair):
        raise InputError(f'{owner}: shape is (F, T), frequencies and frames, got {shape!r}.')
    return pair


def _size(shape: Sequence[int]) -> str:
    return 'x'.join(map(str, shape))
