"""Which frames of a scan are correlated."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ainerd_hpc.config import CorrelateConfig
from ainerd_hpc.types import Content, Scan


class Selection(NamedTuple):
    """Every `stride`-th frame from `first` on, `average` of them added up to one, `num_frames` times."""

    first: int
    num_frames: int
    stride: int = 1
    average: int = 1
    bad: tuple[int, ...] = ()
    """Ascending numbers in the selection of the frames that are known to be bad: what is read of them is no count."""
    missing: tuple[int, ...] = ()
    """Those of them of which something is in no file."""

    @property
    def span(self) -> int:
        """Frames of the file for one frame of the selection."""
        return self.stride * self.average

    @property
    def single(self) -> Selection:
        """The same frames of the file, none of them added up."""
        return Selection(self.first, self.num_frames * self.average, self.stride)

    def bad_within(self, start: int, stop: int) -> tuple[int, ...]:
        """Numbers of the bad frames among frames [start, stop) of the selection, counted from start."""
        found = self.bad[bisect_left(self.bad, start) : bisect_left(self.bad, stop)]
        return tuple(number - start for number in found)

    def places(self, frames: Iterable[int]) -> tuple[int, ...]:
        """Numbers in the selection of what these frames of the file are part of."""
        offsets = [frame - self.first for frame in frames if frame >= self.first]
        used = {offset // self.span for offset in offsets if offset % self.stride == 0}
        return tuple(sorted(place for place in used if place < self.num_frames))

    def raw(self, start: int, stop: int) -> tuple[int, int]:
        """Frames of the file [start, stop) that make frames [start, stop) of the selection."""
        last = self.first + (stop - 1) * self.span + (self.average - 1) * self.stride
        return self.first + start * self.span, last + 1


def selection(config: CorrelateConfig, num_frames: int, missing: Sequence[int] = ()) -> Selection:
    """The selection that the config makes of this many frames; leftovers at the end are dropped.

    `missing`: frames of the file of which something is in no file.
    """
    first, stop, _ = slice(config.begin_frame, config.end_frame).indices(num_frames)
    span = config.stride_frames * config.average_frames
    num = max(0, stop - first) // span
    chosen = Selection(first, num, config.stride_frames, config.average_frames)
    lost = chosen.places(missing)
    return chosen._replace(bad=tuple(sorted({*chosen.places(config.bad_frames), *lost})), missing=lost)


def recorded_selection(scan: Scan, options: Mapping[str, Any]) -> Selection:
    """The frames that were correlated, by the options that the correlation of a scan records."""
    if scan.content is not Content.FRAMES:
        return Selection(0, scan.num_frames)
    return selection(CorrelateConfig.model_validate(options), scan.num_frames)


def as_correlated(config: CorrelateConfig, scan: Scan) -> Scan:
    """The scan as it is after correlation: with the frames, period and start of its selection."""
    if scan.content is not Content.FRAMES:
        return scan
    chosen = selection(config, scan.num_frames)
    return replace(
        scan,
        num_frames=chosen.num_frames,
        frame_time=scan.frame_time * chosen.span,
        start_time=scan.start_time + chosen.first * scan.frame_time,
    )
