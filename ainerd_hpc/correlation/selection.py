"""Which frames of a scan are correlated."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ainerd_hpc.config import CorrelateConfig
from ainerd_hpc.types import Content, Scan


class Selection(NamedTuple):
    """Every `stride`-th frame from `first` on, `average` of them added up to one, `num_frames` times."""

    first: int
    num_frames: int
    stride: int = 1
    average: int = 1
    bad: tuple[int, ...] = ()
    """Numbers in the selection of the frames that are known to be bad."""

    @property
    def span(self) -> int:
        """Frames of the file for one frame of the selection."""
        return self.stride * self.average

    @property
    def single(self) -> Selection:
        """The same frames of the file, none of them added up."""
        return Selection(self.first, self.num_frames * self.average, self.stride)

    def raw(self, start: int, stop: int) -> tuple[int, int]:
        """Frames of the file [start, stop) that make frames [start, stop) of the selection."""
        last = self.first + (stop - 1) * self.span + (self.average - 1) * self.stride
        return self.first + start * self.span, last + 1


def selection(config: CorrelateConfig, num_frames: int) -> Selection:
    """The selection that the config makes of this many frames; leftovers at the end are dropped."""
    first, stop, _ = slice(config.begin_frame, config.end_frame).indices(num_frames)
    span = config.stride_frames * config.average_frames
    num = max(0, stop - first) // span
    offsets = [frame - first for frame in config.bad_frames if frame >= first]
    bad = {offset // span for offset in offsets if offset % config.stride_frames == 0 and offset // span < num}
    return Selection(first, num, config.stride_frames, config.average_frames, tuple(sorted(bad)))


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
