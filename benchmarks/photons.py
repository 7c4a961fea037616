"""SIMULATED photons with known truth: renewal speckle.

The intensity of a pixel is constant for a geometrically distributed number of frames and is then drawn anew, from a
gamma distribution; photons are Poisson. So C2(t, t + k) = 1 + contrast exp(-k / tau_renewal), without any averaging in
a frame, at any rate: a pixel costs time for its photons and renewals, not for its frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numba
import numpy as np

from ainerd_hpc.formats.frames.aps import write_metadata
from ainerd_hpc.formats.partitions.partition import Geometry, QMap, make_ring_partition, write_partition

_PIXELS_PER_BLOCK = 8192
_FRAMES_PER_WRITE = 64
_LARGEST_DENSE = 2**31
"""Bytes of frames in memory; longer scans are kept as events."""
_THREADS = 2
_FEW = 0.3
"""Photons a frame."""


@dataclass(frozen=True, slots=True)
class Photons:
    """What to simulate. The same values give the same photons, whatever the number of threads."""

    num_frames: int = 1000
    height: int = 512
    width: int = 512
    num_q_bins: int = 20
    num_static_per_q: int = 10
    mean_counts: float = 0.3
    """Photons a frame and valid pixel, mean over these."""
    fall: float = 10.0
    """How many times brighter the innermost ring is than the outermost."""
    contrast: float = 0.2
    tau_renewal: float = 20.0
    """Mean life of a speckle, frames."""
    beam_noise: float = 0.03
    """Relative standard deviation of the beam from frame to frame."""
    seed: int = 2024

    @property
    def shape(self) -> tuple[int, int, int]:
        """(t, y, x)."""
        return self.num_frames, self.height, self.width

    def c2(self, lag: np.ndarray) -> np.ndarray:
        """The truth: C2 at lags other than 0, frames."""
        return 1 + self.contrast * np.exp(-lag / self.tau_renewal)


def geometry(photons: Photons) -> Geometry:
    """Beam in the middle of the detector, pixels of 75 um, 10 keV."""
    return Geometry((photons.width - 1) / 2, (photons.height - 1) / 2, 75e-6, 5.0, 10.0)


def rings(photons: Photons) -> QMap:
    """Rings between a beam stop and the edge; a gap of the detector runs through them. Three quarters of the pixels."""
    place = geometry(photons)
    y = np.arange(photons.height)[:, None] - place.beam_center_y
    x = np.arange(photons.width) - place.beam_center_x
    radius, edge = np.hypot(y, x), min(photons.height, photons.width) / 2
    mask = (radius < edge) & (radius > 0.1 * edge) & (abs(x - 0.3 * edge) > 0.025 * edge)
    return make_ring_partition(mask, place, photons.num_q_bins, photons.num_static_per_q)


def ring_means(photons: Photons, labels: np.ndarray) -> np.ndarray:
    """Photons a pixel and frame, (label,) float64 from label 0, which gets none; falls geometrically."""
    sizes = np.bincount(labels[labels > 0])
    means = np.append(0, np.geomspace(1, 1 / photons.fall, len(sizes) - 1))
    return means * photons.mean_counts * sizes.sum() / (means @ sizes)


def beam(photons: Photons) -> np.ndarray:
    """Brightness of the beam, (t,) float64, mean 1."""
    noise = np.random.default_rng([photons.seed, 0]).normal(size=photons.num_frames)
    return np.maximum(1 + photons.beam_noise * noise, 0.1)


def blocks(photons: Photons) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Photons of successive blocks of p pixels: the first pixel, pointer (p + 1,) int64, frame (n,) int32, ascending.

    The photons of pixel i of the block are frame[pointer[i] : pointer[i + 1]].
    """
    labels = rings(photons).partition.dynamic_roi_map.ravel()
    means, light = ring_means(photons, labels), beam(photons)

    def one(first: int) -> tuple[int, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([photons.seed, 1, first])
        brightness = means[labels[first : first + _PIXELS_PER_BLOCK]]
        return first, *_arrivals(rng, brightness, light, photons.contrast, photons.tau_renewal)

    starts = range(0, labels.size, _PIXELS_PER_BLOCK)
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead = [pool.submit(one, first) for first in starts[: 2 * _THREADS]]
        for index in range(len(starts)):
            yield ahead.pop(0).result()
            if index + 2 * _THREADS < len(starts):
                ahead.append(pool.submit(one, starts[index + 2 * _THREADS]))


@numba.njit(nogil=True, cache=True)
def _arrivals(rng: Any, brightness: Any, light: Any, contrast: Any, tau: Any) -> Any:
    """Pointer and frames of the photons of pixels of given brightness (p,) in a beam `light` (t,)."""
    num_frames, brightest, end = light.size, light.max(), 0
    frame = np.empty(int(1.2 * num_frames * brightness.sum()) + 1024, dtype=np.int32)
    pointer = np.zeros(brightness.size + 1, dtype=np.int64)
    for pixel in range(brightness.size):
        start = 0
        while start < num_frames and brightness[pixel] > 0:
            life = min(rng.geometric(-np.expm1(-1 / tau)), num_frames - start)
            rate = brightness[pixel] * contrast * rng.standard_gamma(1 / contrast)
            # Few photons: how many in this life, and when. Many: how many in each of its frames.
            step = life if rate < _FEW else 1
            for first in range(start, start + life, step):
                number = rng.poisson(rate * brightest * step)
                frame = _with_room(frame, end + number)
                for _ in range(number):
                    time = first + int(rng.random() * step)
                    frame[end] = time
                    end += rng.random() * brightest < light[time]
            start += life
        frame[pointer[pixel] : end].sort()
        pointer[pixel + 1] = end
    return pointer, frame[:end].copy()


@numba.njit(nogil=True, cache=True)
def _with_room(array: Any, size: Any) -> Any:
    if size <= array.size:
        return array
    larger = np.empty(2 * size, dtype=array.dtype)
    larger[: array.size] = array
    return larger


@numba.njit(nogil=True, cache=True)
def _scatter(pointer: Any, frame: Any, first: Any, frames: Any) -> None:
    """Count the photons of pixels from `first` on in frames (t, y x)."""
    for pixel in range(pointer.size - 1):
        for event in range(pointer[pixel], pointer[pixel + 1]):
            frames[frame[event], first + pixel] += 1


@numba.njit(nogil=True, cache=True)
def _by_frame(pointer: Any, frame: Any, num_frames: Any) -> Any:
    """The same photons in order of time: pointer (t + 1,) int64, pixel (n,) int32."""
    starts = np.zeros(num_frames + 2, dtype=np.int64)
    for event in range(frame.size):
        starts[frame[event] + 2] += 1
    starts = np.cumsum(starts)
    pixels = np.empty(frame.size, dtype=np.int32)
    for pixel in range(pointer.size - 1):
        for event in range(pointer[pixel], pointer[pixel + 1]):
            pixels[starts[frame[event] + 1]] = pixel
            starts[frame[event] + 1] += 1
    return starts[:-1], pixels


@numba.njit(nogil=True, cache=True)
def _add(pointer: Any, pixels: Any, start: Any, out: Any) -> None:
    """Count the photons of frames from `start` on in out (frames, y x)."""
    for index in range(out.shape[0]):
        for event in range(pointer[start + index], pointer[start + index + 1]):
            out[index, pixels[event]] += 1


def events(photons: Photons) -> tuple[np.ndarray, np.ndarray]:
    """All photons by pixel: pointer (y x + 1,) int64, frame (n,) int32, ascending for each pixel."""
    pointers, frames = [np.zeros(1, dtype=np.int64)], []
    for _, pointer, frame in blocks(photons):
        pointers.append(pointers[-1][-1] + pointer[1:])
        frames.append(frame)
    return np.concatenate(pointers), np.concatenate(frames)


def dense(photons: Photons) -> np.ndarray:
    """All photons as frames (t, y, x) uint16."""
    frames = np.zeros((photons.num_frames, photons.height * photons.width), dtype=np.uint16)
    for first, pointer, frame in blocks(photons):
        _scatter(pointer, frame, first, frames)
    return frames.reshape(photons.shape)


def frames_in_order(photons: Photons) -> Iterator[np.ndarray]:
    """Successive blocks of frames (n, y, x) uint16."""
    starts = range(0, photons.num_frames, _FRAMES_PER_WRITE)
    if 2 * np.prod(photons.shape) <= _LARGEST_DENSE:
        frames = dense(photons)
        yield from (frames[start : start + _FRAMES_PER_WRITE] for start in starts)
        return
    pointer, pixels = _by_frame(*events(photons), photons.num_frames)
    for start in starts:
        block = np.zeros((min(_FRAMES_PER_WRITE, photons.num_frames - start), photons.height, photons.width), np.uint16)
        _add(pointer, pixels, start, block.reshape(len(block), -1))
        yield block


def write(folder: Path, photons: Photons) -> Path:
    """Write `scan.h5` (/entry/data/data, a frame a chunk, bitshuffle/LZ4), `scan_metadata.hdf` and `scan_qmap.hdf`.

    Returns
    -------
    Path
        Of `scan.h5`, which is written last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place, about = geometry(photons), "SIMULATED by benchmarks/photons.py; not measured"
    write_partition(folder / "scan_qmap.hdf", rings(photons), place, about)
    write_metadata(
        folder / "scan_metadata.hdf",
        start_time=0.0,
        frame_time=1e-3,
        count_time=1e-3,
        geometry=place,
        sample={},
        simulated=True,
        description=about,
    )
    raw = folder / "scan.h5"
    partial = raw.with_suffix(".partial")
    with h5py.File(partial, "w") as file:
        file.attrs["simulated"] = True
        options = hdf5plugin.Bitshuffle(cname="lz4")
        chunk = (1, *photons.shape[1:])
        data = file.create_dataset("entry/data/data", photons.shape, np.uint16, chunks=chunk, **options)
        start = 0
        for block in frames_in_order(photons):
            data[start : start + len(block)] = block
            start += len(block)
    return partial.rename(raw)
