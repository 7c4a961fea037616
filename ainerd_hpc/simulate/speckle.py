"""Frames from g1: Gaussian fields, speckle intensities, photons."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from ainerd_hpc.config import SimulateConfig
from ainerd_hpc.simulate.chance import Stream, generator
from ainerd_hpc.simulate.detector import Instrument, instrument
from ainerd_hpc.simulate.dynamics import draw_dynamics, field_correlation

DEAD = 65535
"""Value of a dead pixel in uint16 frames, as detectors write it."""
BEAM_NOISE = 0.02
"""Relative standard deviation of the beam's intensity from frame to frame."""

_PIXELS_PER_BLOCK = 1024
_RANK_TOLERANCE = 1e-5
"""Variance of the unit field that a low-rank root may leave out."""
_ENVELOPE = 1.0
"""Mean counts fall as q to minus this power."""


def simulate_counts(config: SimulateConfig, index: int) -> np.ndarray:
    """Frames of scan `index`, (t, y, x) uint16; dead pixels are 65535, the beam stop is nearly dark."""
    detector, dynamics = instrument(config), draw_dynamics(config, index)
    random = generator(config, Stream.FRAMES, index)
    times = np.arange(config.num_frames) * config.frame_time
    beam = np.clip(1.0 + BEAM_NOISE * random.standard_normal(config.num_frames), 0.5, 1.5)
    counts = np.zeros((config.num_frames, config.height, config.width), dtype=np.uint16)
    pixels = counts.reshape(config.num_frames, -1)
    partition = detector.rings.partition
    with threadpool_limits(1):  # so that the order of the sums, and the bytes, do not depend on the machine's cores
        for q_bin, q in enumerate(partition.dynamic_q_list):
            root = square_root(field_correlation(dynamics, float(q), times))
            mean = beam * mean_counts(config)[q_bin]
            inside = np.flatnonzero(partition.dynamic_roi_map == q_bin + 1)
            for start in range(0, inside.size, _PIXELS_PER_BLOCK):
                block = inside[start : start + _PIXELS_PER_BLOCK]
                intensity = _intensity(root, block.size, config.coherent_modes, random)
                pixels[:, block] = _photons(intensity * mean[:, np.newaxis], random)
    _add_defects(counts, detector, random)
    return counts


def mean_counts(config: SimulateConfig) -> np.ndarray:
    """Photons per pixel and frame of each q-bin, (q_bin,)."""
    q_list = instrument(config).rings.partition.dynamic_q_list
    return np.asarray(config.mean_counts * (q_list / q_list[0]) ** -_ENVELOPE)


def scan_bytes(config: SimulateConfig) -> int:
    """Upper bound of the memory that one scan takes until it is written, bytes."""
    frames = 2 * config.num_frames * config.height * config.width
    correlation = 5 * 16 * config.num_frames**2
    block = 40 * config.num_frames * min(_PIXELS_PER_BLOCK, config.height * config.width)
    detector = 200 * config.height * config.width
    return frames + correlation + block + detector + 2**22


def square_root(g1: np.ndarray) -> np.ndarray:
    """(t, rank) float32 or complex64 with root @ root^H = g1: Cholesky with pivoting stops where nothing is left."""
    factorise = lapack.zpstrf if np.iscomplexobj(g1) else lapack.dpstrf
    factor, pivot, rank, _ = factorise(g1, lower=1, tol=_RANK_TOLERANCE)
    root = np.empty((len(g1), rank), dtype=g1.dtype)
    root[pivot - 1] = np.tril(factor)[:, :rank]
    return root.astype(np.complex64 if np.iscomplexobj(g1) else np.float32)


def _intensity(root: np.ndarray, num_pixels: int, modes: int, random: np.random.Generator) -> np.ndarray:
    """Speckle intensities (t, pixel) float32 with mean 1: the mean over `modes` of |root @ complex white noise|^2."""
    total = np.zeros((len(root), num_pixels), dtype=np.float32)
    for _ in range(modes):
        white = random.standard_normal((root.shape[1], 2 * num_pixels), dtype=np.float32)
        parts = (root @ white.view(root.dtype)).view(np.float32)
        parts *= parts
        total += parts[:, ::2]
        total += parts[:, 1::2]
    total /= 2.0 * modes
    return total


def _photons(mean: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Poisson counts below the value of a dead pixel."""
    return np.minimum(random.poisson(mean), DEAD - 1).astype(np.uint16)


def _add_defects(counts: np.ndarray, detector: Instrument, random: np.random.Generator) -> None:
    """Fill in the pixels that the mask leaves out."""
    for frame in counts:
        frame[detector.beam_stop] = random.poisson(0.01, np.count_nonzero(detector.beam_stop))
        frame[detector.hot] = random.poisson(2000.0, np.count_nonzero(detector.hot))
    counts[:, detector.dead] = DEAD
