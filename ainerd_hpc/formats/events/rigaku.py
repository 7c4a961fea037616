"""Events of the Rigaku detectors XSPA-500k (one file) and 3M (six), 64 bits each, without a header.

A word, little-endian, is bits 0-11 count, 16-36 pixel, 40-63 frame, the others 0. Words are in order of frames;
pixels are numbered row by row in a module of 512 x 1024, from 0 or, in some files of the 3M, from 2^20. The 3M has
3 x 2 modules, in files `*.bin.000` to `.005`, with gaps of 70 rows and 52 columns between them: (1676, 2100). As
boost_corr reads them, but for counts above 255 and for several events of one pixel and frame, which it loses.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainerd_hpc.errors import ScanError, UnavailableError
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.events.blocks import EventFrames
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, reading
from ainerd_hpc.formats.opening import OpenFile, opened
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

if TYPE_CHECKING:
    from ainerd_hpc.kernels.event_frames import EventBlock

_ROWS, _COLUMNS = 512, 1024
_AREA = _ROWS * _COLUMNS
_HIGH = 2**20
"""Number of a module's first pixel in some files."""
_ORDER = (5, 0, 4, 1, 3, 2)
"""The modules of the 3M, row by row."""
_GAP_ROWS, _GAP_COLUMNS = 70, 52
_SHAPE_3M = (3 * _ROWS + 2 * _GAP_ROWS, 2 * _COLUMNS + _GAP_COLUMNS)
_NAME = re.compile(r"\.bin(?:\.00([0-5]))?$", re.IGNORECASE)
_UNUSED = 0b111 << 37 | 0b1111 << 12
_WORD = 8
_SAMPLE = 512
"""Words that are looked at, at both ends."""
_ENOUGH = 64
"""Words that are no events by chance, whatever the file is called."""
_SHARE = 0.75
"""Share of good words that make a damaged file, not another format, of one that is called .bin."""
_BLOCK = 2**12
"""Words that are searched at a time."""
_LOST = 100
"""Events that a module lacks at its end beyond chance: exp(-100) that it just saw none."""


class Rigaku:
    """Reader of Rigaku events."""

    name = "rigaku"
    content = Content.FRAMES

    @staticmethod
    def matches(file: SourceFile) -> bool:
        """Whether the file begins with words that are events.

        From 64 words on content alone is enough. Fewer, or none, could be anything: they count if the file is called
        `*.bin` or `*.bin.00N`, as do words of which a quarter is wrong, so that damage is told. Of a 3M scan only the
        first of its files matches.
        """
        words = np.frombuffer(file.head[: len(file.head) // _WORD * _WORD], dtype="<u8")
        good, name = _is_event(words) & (words & 0xFFF > 0), _NAME.search(file.path.name)
        if name is None:
            return len(words) >= _ENOUGH and bool(good.all()) and len(np.unique(_pixel(words))) > 1
        is_first = not any(path.is_file() for path in _module_paths(file.path)[: int(name[1] or 0)])
        return is_first and file.path.is_file() and (len(words) == 0 or good.mean() >= _SHARE)

    @staticmethod
    def describe(file: SourceFile) -> Description:
        """Shape of a scan, from both ends of its files.

        The file does not say how many frames were taken: they are counted to the last event, so empty frames at the
        end are lost, and a file that was cut off between two events is a shorter scan.
        """
        with Rigaku.open(file.path) as frames:
            name = _NAME.search(file.path.name)
            stem = file.path.name[: name.start()] if name else ""
            others = tuple(sorted(module.path for module in frames.modules if module.path != file.path))
            num_events = sum(module.num_words for module in frames.modules)
            shape, itemsize = frames.shape, frames.dtype.itemsize
            return Description(shape[0], itemsize, *shape[1:], num_events=num_events, stem=stem, companions=others)

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[RigakuFrames]:
        name = _NAME.search(path.name)
        is_3m = name is not None and name[1] is not None
        with ExitStack() as files:
            with reading(str(path)):
                modules = [_open_module(one, files) for one in (_module_paths(path, _ORDER) if is_3m else [path])]
            if is_3m:
                _check_ends(modules)
            yield RigakuFrames(path, modules)


class RigakuFrames(EventFrames):
    """Frames of one module or six, read as they are asked for; that all words are events in order is seen then."""

    def __init__(self, path: Path, modules: list[_Module]) -> None:
        self.modules = modules
        height, width = _SHAPE_3M if len(modules) > 1 else (_ROWS, _COLUMNS)
        super().__init__(str(path), (max(module.num_frames for module in modules), height, width))

    def events(self, start: int, stop: int) -> EventBlock:
        from ainerd_hpc.kernels.event_frames import join

        blocks = [self._module_events(number, start, stop) for number in range(len(self.modules))]
        return blocks[0] if len(blocks) == 1 else join(blocks)

    def _module_events(self, number: int, start: int, stop: int) -> EventBlock:
        from ainerd_hpc.kernels.event_frames import BadEventError, unpack_rigaku

        module = self.modules[number]
        first, last = module.place(start), module.place(stop) if stop < self.shape[0] else module.num_words
        corner = (number // 2 * (_ROWS + _GAP_ROWS), number % 2 * (_COLUMNS + _GAP_COLUMNS))
        if last < first:
            raise module.refusal(last, f"frames {start}..{stop - 1}")
        try:
            return unpack_rigaku(module.words(first, last), (start, stop), module.first_pixel, corner, self.shape[2])
        except BadEventError as error:
            raise module.refusal(first + error.index, f"frames {start}..{stop - 1}") from None


@dataclass(frozen=True)
class _Module:
    """One file."""

    file: OpenFile
    num_words: int
    num_frames: int
    first_pixel: int

    @property
    def path(self) -> Path:
        return self.file.path

    def words(self, first: int, last: int) -> np.ndarray:
        """Events [first, last), uint64."""
        return _words(self.file, first, last)

    def place(self, frame: int) -> int:
        """Number of the first event of a frame."""
        if frame == 0 or frame >= 2**24:
            return self.num_words if frame else 0
        block = max(0, bisect_left(self._index, frame) - 1) * _BLOCK
        words = self.words(block, min(block + _BLOCK, self.num_words))
        return block + int(np.searchsorted(words, np.uint64(frame << 40)))

    @cached_property
    def _index(self) -> list[int]:
        """Frame of every so many-th event."""
        return [int(self.words(event, event + 1)[0]) >> 40 for event in range(0, self.num_words, _BLOCK)]

    def refusal(self, index: int, expected: str) -> ScanError:
        """What is wrong with an event."""
        word, first = int(self.words(index, index + 1)[0]), self.first_pixel
        found = f"frame {word >> 40}, pixel {word >> 16 & 0x1FFFFF}, unused bits {word & _UNUSED:#x}"
        problem = f"expected {expected} in order, pixels {first}..{first + _AREA - 1}, unused bits 0, found {found}"
        return ScanError(f"{self.path} event {index}", problem, NEXT_STEP)


def _module_paths(path: Path, order: tuple[int, ...] = tuple(range(6))) -> list[Path]:
    return [path.with_name(f"{path.name[:-1]}{number}") for number in order]


def _open_module(path: Path, files: ExitStack) -> _Module:
    """One file, looked at from both ends."""
    if not path.is_file():
        raise UnavailableError(
            str(path), "expected this file of the six of a 3M scan, found none", "copy it beside the others"
        )
    size = path.stat().st_size
    if size == 0 or size % _WORD:
        problem = f"expected events of {_WORD} bytes each, found {size} bytes"
        raise ScanError(str(path), problem, NEXT_STEP)
    file, num_words = files.enter_context(opened(path)), size // _WORD
    first_pixel = _HIGH if np.median(_pixel(_words(file, 0, min(_SAMPLE, num_words)))) >= _HIGH else 0
    num_frames = int(_words(file, num_words - 1, num_words)[0] >> 40) + 1
    module = _Module(file, num_words, num_frames, first_pixel)
    for start in {0, max(0, num_words - _SAMPLE)}:
        sample = module.words(start, min(start + _SAMPLE, num_words))
        outside = (_pixel(sample) < first_pixel) | (_pixel(sample) >= first_pixel + _AREA)
        wrong = np.flatnonzero(outside | ~_is_event(sample))
        if len(wrong):
            raise module.refusal(start + int(wrong[0]), "frames")
    return module


def _words(file: OpenFile, first: int, last: int) -> np.ndarray:
    return file.read_array(np.dtype("<u8"), last - first, first * _WORD)


def _pixel(words: np.ndarray) -> np.ndarray:
    return np.asarray(words >> 16 & 0x1FFFFF)


def _is_event(words: np.ndarray) -> np.ndarray:
    """Which words can be events, in order of frames."""
    pixel, frame = _pixel(words), words >> 40
    in_order = np.append(True, frame[1:] >= frame[:-1])[: len(words)]
    return np.asarray((words & _UNUSED == 0) & (pixel % _HIGH < _AREA) & in_order)


def _check_ends(modules: list[_Module]) -> None:
    """Modules may end at different frames, where the last ones are empty, but not while the others go on counting."""
    for module in modules:
        others = [other for other in modules if other is not module]
        before = sum(other.place(module.num_frames) for other in others)
        after = sum(other.num_words for other in others) - before
        lacking = module.num_words * after / max(1, before)
        if lacking > _LOST:
            last = max(other.num_frames for other in others)
            problem = (
                f"expected about {lacking:.0f} more events up to frame {last - 1}, as the other modules have, "
                f"found none after frame {module.num_frames - 1}"
            )
            raise ScanError(str(module.path), problem, NEXT_STEP)
