"""Random numbers that depend on the config's seed, what they are for, and an index: on nothing drawn before."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from ainerd_hpc.config import SimulateConfig


class Stream(IntEnum):
    """What random numbers are for; other values would give other scans."""

    KINDS = 0
    DYNAMICS = 1
    DEFECTS = 2
    FRAMES = 3
    SAMPLE_LOG = 4


def generator(config: SimulateConfig, stream: Stream, index: int = 0) -> np.random.Generator:
    """Always the same numbers for the same arguments, independent of those for any others."""
    seeds = np.random.SeedSequence(config.seed % 2**64, spawn_key=(stream, index))
    return np.random.default_rng(seeds)
