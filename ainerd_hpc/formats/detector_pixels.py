"""What a file says of the pixels of its own detector, in the one form that all readers give it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ainerd_hpc.kernels.no_counts import Span

MASK_BYTES = 24
"""Most memory of a mask while it is read, a pixel: as stored, in 8 bytes, in 4, and where it is set."""
PIXEL_MASK = "pixel_mask"
"""Name of a mask in an archive of ours."""
BITS = {
    0: "gap",
    1: "dead",
    2: "under-responding",
    3: "over-responding",
    4: "noisy",
    6: "part of a cluster of such pixels",
    8: "masked by the user",
    31: "virtual, its count is interpolated",
}
"""Bits of a pixel mask. Source: NeXus, NXdetector, pixel_mask; others are not defined, and mask a pixel as well."""


@dataclass(frozen=True, slots=True)
class PixelFacts:
    """What a file says of its pixels, without the mask itself."""

    no_counts: tuple[Span, ...] = ()
    """Spans of values that are no counts, besides those of dead pixels."""
    has_mask: bool = False
    used: tuple[str, ...] = ()
    """What the file says and is acted on, such as `saturation_value 4095`."""
    unused: tuple[str, ...] = ()
    """What it says and is not acted on, in a line each."""

    @staticmethod
    def from_json(known: Mapping[str, Any]) -> PixelFacts:
        """The facts that `dataclasses.asdict` and JSON made lists of."""
        spans = tuple((first, last) for first, last in known["no_counts"])
        return PixelFacts(spans, known["has_mask"], tuple(known["used"]), tuple(known["unused"]))

    @property
    def text(self) -> str:
        """All of them in a line; empty where the file says nothing."""
        return "; ".join([*self.used, *(f"not used: {one}" for one in self.unused)])

    @property
    def key(self) -> tuple[str, ...]:
        """What a digest has to know of them: that which changes counts. The mask is known by its file."""
        return (*(["pixel_mask"] if self.has_mask else []), *(str(span) for span in self.no_counts))


class DetectorPixels(NamedTuple):
    """What is acted on when the frames are read."""

    no_counts: tuple[Span, ...] = ()
    """Spans of values that are no counts, as in `PixelFacts`."""
    mask: np.ndarray | None = None
    """(y, x) uint32, `BITS` of each pixel; 0: a good one."""

    @property
    def attributes(self) -> dict[str, Any]:
        """What an archive of ours keeps beside counts and mask; in JSON, where an open end is null."""
        spans = [[end if isfinite(end) else None for end in span] for span in self.no_counts]
        return {"no_counts": spans} if spans else {}

    @staticmethod
    def of_store(attributes: Mapping[str, Any], mask: np.ndarray | None) -> DetectorPixels:
        """The same from there."""
        spans = attributes.get("no_counts", ())
        ends = ((-inf if first is None else first, inf if last is None else last) for first, last in spans)
        return DetectorPixels(tuple(ends), mask)

    @property
    def is_masked(self) -> np.ndarray | None:
        """(y x,) bool; None without a mask."""
        return None if self.mask is None else self.mask.ravel() != 0


@runtime_checkable
class _Telling(Protocol):
    @property
    def pixels(self) -> DetectorPixels:
        """What their file says of the pixels."""


def pixels_of(frames: object) -> DetectorPixels:
    """What the file of these frames says of its pixels; nothing where its reader knows of none."""
    return frames.pixels if isinstance(frames, _Telling) else DetectorPixels()
