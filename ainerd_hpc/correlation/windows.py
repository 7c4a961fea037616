"""Windows along the diagonal of C2, their names, and the g2 of each with its fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.config import RunConfig
from ainerd_hpc.correlation.selection import as_correlated, selection
from ainerd_hpc.correlation.tiles import window_lengths
from ainerd_hpc.kernels.windows import window_starts
from ainerd_hpc.types import Content, Scan

if TYPE_CHECKING:
    from ainerd_hpc.kernels.fitting.kww import KwwFit


@dataclass(frozen=True, slots=True)
class Window:
    """A square of C2 on the diagonal: frames [age_start, age_stop) of one q-bin."""

    q_bin: int
    age_start: int
    age_stop: int

    @property
    def length(self) -> int:
        return self.age_stop - self.age_start


def windows(config: RunConfig, scan: Scan) -> Iterator[Window]:
    """The windows of a scan: q-bin by q-bin, in the order of the configured lengths, then of time."""
    num_frames = as_correlated(config.correlate, scan).num_frames
    for q_bin in range(scan.num_q_bins):
        for length in window_lengths(config.maps, num_frames):
            for start in window_starts(num_frames, length, config.maps.overlap):
                yield Window(q_bin, int(start), int(start) + length)


def count_maps(config: RunConfig, scans: Iterable[Scan]) -> int:
    """How many maps these scans give."""
    return int(maps_of_each(config, scans).sum())


def maps_of_each(config: RunConfig, scans: Iterable[Scan]) -> NDArray[np.int64]:
    """How many maps each of these scans gives, (n,)."""
    scans = Scans.of(scans)
    is_selected = scans.column("content") == Content.FRAMES.value
    forms, form = np.unique(np.stack([scans.column("num_frames"), is_selected]), axis=1, return_inverse=True)
    windows = [_windows_of_a_bin(config, int(num), bool(selected)) for num, selected in forms.T]
    return np.asarray(np.array(windows, np.int64)[form] * scans.column("num_q_bins"))


def _windows_of_a_bin(config: RunConfig, num_frames: int, is_selected: bool) -> int:
    num = selection(config.correlate, num_frames).num_frames if is_selected else num_frames
    return sum(len(window_starts(num, length, config.maps.overlap)) for length in window_lengths(config.maps, num))


def map_ids(columns: pd.DataFrame) -> pd.Series:
    """`<scan_id>:<q_bin>:<age_start>-<age_stop>` for rows with these columns."""
    text = {name: columns[name].astype(str) for name in ("scan_id", "q_bin", "age_start", "age_stop")}
    return text["scan_id"] + ":" + text["q_bin"] + ":" + text["age_start"] + "-" + text["age_stop"]


def fit_window(c2: np.ndarray, frame_time: float) -> KwwFit:
    """KWW fit of the g2 of one window, (t, t)."""
    from ainerd_hpc.kernels.fitting import kww

    delay, g2, g2_err = window_g2(c2, frame_time)
    return kww.fit(delay, g2, g2_err)


def window_g2(c2: np.ndarray, frame_time: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Delay (s), g2 and its standard error of one window, on a quasi-logarithmic grid of lags."""
    from ainerd_hpc.kernels.diagonals import g2_from_c2
    from ainerd_hpc.kernels.fitting import kww

    g2, g2_err = g2_from_c2(c2)
    lag, g2, g2_err = kww.log_bin(np.arange(1, len(c2)), g2, g2_err)
    return lag * frame_time, g2, g2_err
