"""The contract of the readers of source files, and of the frames that they open.

A reader knows one format. It is a class whose methods are static, or an object: nothing is kept from call to call. Its
`content` says what it gives: frames (`FrameReader`), two-time maps (`C2Reader`) or latents (`LatentReader`). A file
that is damaged, or is not what it says, is told by a ScanError of one line, whatever libraries make of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from inspect import getmembers, isfunction, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

import numpy as np

from ainerd_hpc.types import Content

if TYPE_CHECKING:
    from ainerd_hpc.formats.description import Description
    from ainerd_hpc.formats.source_file import SourceFile
    from ainerd_hpc.kernels.gather import FrameEvents


COUNT_KINDS = "uifb"
"""Kinds of NumPy types that frames may be stored in."""


def frame_type(stored: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which frames of a stored one are given: in native byte order, and one that kernels are made for.

    Those of 16-bit floats are float32, those of more than 64 bits float64, and single bits are uint8.
    """
    if stored.kind == "f":
        return np.dtype(np.float32 if stored.itemsize <= 4 else np.float64)
    return np.dtype(np.uint8) if stored.kind == "b" else stored.newbyteorder("=")


class Frames(Protocol):
    """Frames of a type that `frame_type` gives, read block by block, by any number of threads at once.

    They may have an attribute `pixels`, what their file says of its own pixels (`formats.detector_pixels`); the
    description of the scan tells of it, too.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(t, y, x)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a count."""

    @property
    def per_chunk(self) -> int:
        """Frames that are decoded together."""

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Frames start, start + step, ... below stop, (n, y, x).

        Raises
        ------
        ScanError
            Naming the frames that cannot be read.
        """


@runtime_checkable
class SearchableFrames(Frames, Protocol):
    """Frames whose events can be had without making the frames.

    Where each pixel has at most one event a frame, an attribute `largest_found` may bound their counts.
    """

    def find(self, start: int, stop: int, position: np.ndarray, is_dead: np.ndarray) -> FrameEvents | None:
        """Events of frames [start, stop) on chosen pixels, as `kernels.gather.find_events` gives them.

        Parameters
        ----------
        position : ndarray of int32, (y x,)
            0..p-1 of the pixels that are wanted, -1 of the others.
        is_dead : ndarray of bool, (p,)
            Pixels without a count in any of the frames are marked.

        Returns
        -------
        FrameEvents, or None where the frames have to be read as frames.

        Raises
        ------
        ScanError
            Naming the frames that cannot be read.
        """


class _Reader(Protocol):
    """What all readers have."""

    name: str
    """Name of the format, under which the reader is registered; scans in the catalog are known by it."""

    def matches(self, file: SourceFile) -> bool:
        """Whether the file is of this format, by what is in it; any file is asked about, and nothing is raised.

        Of a scan in several files only one matches. A damaged file may match, so that `describe` tells what is wrong.
        """


class FrameReader(_Reader, Protocol):
    """Reader of detector images, or of events, which are images as well."""

    content: Literal[Content.FRAMES]

    def describe(self, file: SourceFile) -> Description:
        """Shape and metadata of the scan in a file that matches, without reading frames.

        Raises
        ------
        ScanError
            The file is damaged, does not hold what it says, or lacks a file that belongs to it.
        """

    def open(self, path: Path) -> AbstractContextManager[Frames]:
        """The frames of the scan; `SearchableFrames` where the file lets their events be had faster, and
        `missing.Gapped` where some of them may be in no file.

        Raises
        ------
        ScanError
            As for `describe`.
        """


class C2Reader(_Reader, Protocol):
    """Reader of two-time maps."""

    content: Literal[Content.C2]
    baseline: int | None
    """Baseline of the maps of `read_c2`: 0 or 1, or None where the user has to say it (`source.baseline_reference`)."""

    def describe(self, file: SourceFile) -> Description:
        """Shape and metadata of the scan in a file that matches, without reading maps.

        Raises
        ------
        ScanError
            There are no two-time maps, or their shapes, q-bins or frame numbers do not fit together.
        """

    def read_c2(self, path: Path) -> np.ndarray:
        """The maps, (q_bin, t1, t2) float32, complete and symmetric.

        Raises
        ------
        ScanError
            The file is damaged, or a map holds no finite number or is neither symmetric nor one triangle.
        """

    def read_q(self, path: Path) -> np.ndarray:
        """q of each of these maps, (q_bin,) float64, 1/angstrom; NaN where the file does not say.

        Raises
        ------
        ScanError
            The file is damaged, or the lists of its q-bins do not fit the maps.
        """


class LatentReader(_Reader, Protocol):
    """Reader of latents, of which one file may hold several scans."""

    content: Literal[Content.LATENTS]

    def describe_all(self, path: Path) -> Mapping[str, Description]:
        """Shape and metadata of each scan, by its name.

        Raises
        ------
        ScanError
            A file is missing or damaged.
        """

    def read_latents(self, path: Path, scan_id: str) -> np.ndarray:
        """Latents of one scan, (q_bin, d) float32.

        What follows a `~` in `scan_id` only tells the scan from those of the same name in other files.

        Raises
        ------
        ScanError
            A file is missing or damaged.
        """


Reader = FrameReader | C2Reader | LatentReader

_KINDS: Mapping[Any, type] = {
    Content.FRAMES: FrameReader,
    Content.C2: C2Reader,
    Content.LATENTS: LatentReader,
}


def checked(found: Any, name: str) -> Reader:
    """The same, if it is a reader of this name.

    Raises
    ------
    TypeError
        It lacks something of the contract.
    """
    if getattr(found, "name", None) != name:
        raise TypeError(f"expected the name '{name}' in it, found {getattr(found, 'name', None)!r}")
    content = getattr(found, "content", None)
    if not isinstance(content, Content):
        raise TypeError(f"expected a Content as its content, found {content!r}")
    if content is Content.C2 and getattr(found, "baseline", "none") not in (0, 1, None):
        raise TypeError(f"expected a baseline of 0, 1 or None, found {getattr(found, 'baseline', 'none')}")
    for method, function in getmembers(_KINDS[content], isfunction):
        _, *arguments = signature(function).parameters
        if not method.startswith("_") and not _takes(getattr(found, method, None), len(arguments)):
            raise TypeError(f"expected {method}({', '.join(arguments)}) in it, found none or of other arguments")
    return cast("Reader", found)


def _takes(method: Any, num: int) -> bool:
    """Whether something can be called with so many arguments."""
    try:
        signature(method).bind(*range(num))
    except (TypeError, ValueError):
        return False
    return True
