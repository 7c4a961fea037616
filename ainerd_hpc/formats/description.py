"""What a reader tells of a scan without reading its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Description:
    """Metadata of one scan; None where the file does not say."""

    num_frames: int
    itemsize: int
    """Bytes of one stored value."""
    height: int = 0
    width: int = 0
    num_q_bins: int = 0
    """Known for sources of two-time maps; for frames it comes from the partition file."""
    frame_time: float | None = None
    """Frame period, s."""
    start_time: float = float("nan")
    """s, UTC epoch for ISO dates."""
    simulated: bool = False
    companions: tuple[Path, ...] = ()
    """Other files that the description rests on (metadata)."""
