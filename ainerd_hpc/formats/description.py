"""What a reader tells of a scan without reading its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

from ainerd_hpc.formats.detector_pixels import PixelFacts


@dataclass(frozen=True, slots=True)
class Metadata:
    """How a scan was measured; NaN or empty where nothing says."""

    frame_time: float = nan
    """Frame period, s."""
    count_time: float = nan
    """Exposure of a frame, s."""
    start_time: float = nan
    """s, UTC epoch."""
    energy: float = nan
    """Photon energy, keV."""
    distance: float = nan
    """Sample to detector, m."""
    pixel_size: float = nan
    """m."""
    beam_center_x: float = nan
    """Column of the direct beam, pixels."""
    beam_center_y: float = nan
    """Row of the direct beam, pixels."""
    detector: str = ""
    num_frames: int = 0
    """Their number as somebody noted it, to be compared with what is there; 0: nobody did."""
    sample: Mapping[str, float] = field(default_factory=dict)
    """What else is known at the start: temperature, stress, ..."""

    def or_else(self, other: Metadata) -> Metadata:
        """The same, with what is not known here taken from the other."""
        known: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        unknown = {name for name, value in known.items() if value in ("", 0, {}) or value != value}
        return replace(self, **{name: getattr(other, name) for name in unknown})

    @property
    def has_frame_time(self) -> bool:
        return not isnan(self.frame_time)


@dataclass(frozen=True, slots=True)
class Description:
    """Shape and metadata of one scan."""

    num_frames: int
    itemsize: int
    """Bytes of one stored value."""
    height: int = 0
    width: int = 0
    num_q_bins: int = 0
    """Known for sources of two-time maps; for frames it comes from the partition file."""
    num_events: int = 0
    """Events in a file of events; 0 where it holds frames."""
    reader_bytes: int = 0
    """Memory that its reader takes, besides what is asked of it."""
    metadata: Metadata = Metadata()
    pixels: PixelFacts = field(default_factory=PixelFacts)
    """Those of the first threshold, where the detector has several."""
    other_pixels: tuple[PixelFacts, ...] = ()
    """Those of the others."""
    simulated: bool = False
    stem: str = ""
    """What the names of its other files begin with; empty: the name of the file without suffix."""
    companions: tuple[Path, ...] = ()
    """Other files that belong to the scan: modules, data files, metadata. None of them is a scan of its own."""
    num_thresholds: int = 1
    """How many of the detector's counters are stored; one of them is taken (`source.threshold`)."""
    missing: str = ""
    """What no file holds of its frames, in words without paths; empty where all is there."""
    unfinished: str = ""
    """Why more frames may still come, in one line: then `source.incomplete` says whether those that are there count."""
    is_placed: bool = False
    """Whether frames stand elsewhere than they are stored, by their numbers or their clock."""
    notes: tuple[str, ...] = ()
    """What a user has to know of it, in a line each without its name."""

    def pixels_at(self, threshold: int) -> PixelFacts:
        """What the file says of the pixels of a threshold, where it has it; else of the first."""
        return dict(enumerate(self.other_pixels, start=2)).get(threshold, self.pixels)
