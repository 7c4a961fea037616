"""The simulated detector: geometry, q-rings, and the pixels that count wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ainerd_hpc.config import SimulateConfig
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats.partitions.partition import Geometry, QMap, make_ring_partition
from ainerd_hpc.simulate.chance import Stream, generator

_STATIC_PER_Q = 10


@dataclass(frozen=True)
class Instrument:
    """The simulated detector; the same for all scans of a config."""

    geometry: Geometry
    rings: QMap
    dead: np.ndarray
    """(y, x) bool."""
    hot: np.ndarray
    """(y, x) bool, pixels that count far too much."""
    beam_stop: np.ndarray
    """(y, x) bool."""


@lru_cache(maxsize=4)
def instrument(config: SimulateConfig) -> Instrument:
    """The detector: 75 um pixels 5 m from the sample at 10 keV, the beam on its left side behind a beam stop.

    Raises
    ------
    ConfigError
        The detector is so small that the beam stop covers it.
    """
    height, width = config.height, config.width
    geometry = Geometry(width / 8.0, (height - 1) / 2.0, pixel_size=75e-6, distance=5.0, energy=10.0)
    y = np.arange(height)[:, np.newaxis] - geometry.beam_center_y
    x = np.arange(width) - geometry.beam_center_x
    beam_stop = (np.hypot(x, y) < width / 8.0) | ((x < 0) & (np.abs(y) < width / 100.0))
    chance = generator(config, Stream.DEFECTS).random((height, width))
    dead, hot = chance < 0.002, chance > 0.9995
    try:
        rings = make_ring_partition(~(beam_stop | dead | hot), geometry, config.num_q_bins, _STATIC_PER_Q)
    except ScanError:
        found = f"a detector of {height} x {width} pixels has none outside the beam stop"
        raise ConfigError(f"simulate: {found}; enlarge simulate.height and simulate.width") from None
    return Instrument(geometry, rings, dead, hot, beam_stop)
