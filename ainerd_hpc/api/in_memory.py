"""Correlation of counts that are in memory: the kernels without an archive, for those who have only a movie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ainerd_hpc.api.labelled import as_dataset
from ainerd_hpc.config import RunConfig
from ainerd_hpc.correlation.counts.layout import Layout, layout_of
from ainerd_hpc.correlation.product import fits
from ainerd_hpc.correlation.selection import as_correlated
from ainerd_hpc.correlation.task import correlate_counts
from ainerd_hpc.correlation.tiles import tiles_for
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.formats.partitions.partition import Partition, read_partition
from ainerd_hpc.formats.reader import frame_type
from ainerd_hpc.kernels import twotime
from ainerd_hpc.types import Content, Scan


def correlate(
    frames: NDArray[Any],
    partition: NDArray[np.integer[Any]] | Partition | str | Path,
    *,
    frame_time: float,
    q: NDArray[np.floating[Any]] | None = None,
    threads: int = 1,
    **options: Any,
) -> xr.Dataset:
    """Two-time correlation, g2 and KWW fits of a movie, as a run makes them of a file.

    Parameters
    ----------
    frames : (t, y, x) array
        Counts, or any intensities that are not negative; an array, or what is sliced like one: a dataset of h5py. A
        pixel with a negative or NaN value in any frame is left out.
    partition : (y, x) array of integers, or path
        q-bin of each pixel from 1, 0 for none; or a partition file.
    frame_time : float
        Time between frames, s.
    q : (q_bin,) array, optional
        q of each q-bin, 1/angstrom; default: that of the partition file, else NaN.
    threads : int
        Threads that work at a time. The result does not depend on them.
    **options
        Keys of the section `correlate` of the config, such as `normalisation="static"` or `bad_frames=[7]`.

    Returns
    -------
    Dataset
        c2 (q_bin, t1, t2), baseline 1; g2 and g2_err (q_bin, delay) by the multi-tau scheme; g2_c2, g2_window; tau,
        contrast, kww_exponent, baseline with errors; intensity (q_bin, t1), num_pixels and more. Times in s, q in
        1/angstrom.

    Raises
    ------
    ConfigError
        An option or the partition is wrong.
    ScanError
        The counts are not those of the partition.

    Examples
    --------
    >>> import numpy as np
    >>> movie = np.random.default_rng(0).poisson(0.2, (64, 20, 20))
    >>> found = ainerd_hpc.correlate(movie, np.ones((20, 20), int), frame_time=0.01)
    >>> found.c2.shape, round(float(found.g2.mean()), 1)
    ((1, 64, 64), 1.0)
    """
    config = _config(options, threads)
    layout = _layout(partition, q, frames.shape)
    scan = _scan(frames, layout, frame_time)
    after = as_correlated(config.correlate, scan)
    if after.num_frames < 2:
        raise ConfigError(f"frames: expected two or more to correlate, found {after.num_frames} of {len(frames)}")
    tiles = tiles_for(config.maps.model_copy(update={"windows": ("full",)}), after.num_frames)
    sums = _Sums(scan.num_q_bins, after.num_frames, tiles.edge)
    arrays = correlate_counts(config, scan, tiles, _Movie(frames), layout, sums, sums)  # type: ignore[arg-type]
    arrays |= fits(arrays, after.frame_time)
    scale = arrays.pop("c2_scale")[0]
    c2 = np.stack([twotime.normalise(one, by, by) for one, by in zip(sums.values, scale, strict=True)])
    c2_attributes = {"units": "1", "long_name": "C2", "baseline": 1}
    return as_dataset({"c2": (c2, ("q_bin", "t1", "t2"), c2_attributes), **arrays}, after.frame_time, after.num_frames)


def _config(options: dict[str, Any], threads: int) -> RunConfig:
    """The config of a run with these options; its places are never looked at."""
    from ainerd_hpc.loading import load

    given = {"archive": ".", "source.path": ".", "executor.threads": threads}
    given |= {f"correlate.{key}": value for key, value in options.items()}
    return load(None, [f"{key}={json.dumps(value)}" for key, value in given.items()])


def _layout(partition: Any, q: NDArray[np.floating[Any]] | None, shape: tuple[int, ...]) -> Layout:
    """Which pixel belongs to which q-bin.

    Raises
    ------
    ConfigError
        The partition is not one of these frames, or `q` is not of its q-bins.
    """
    if isinstance(partition, str | Path):
        partition = read_partition(Path(partition))
    if not isinstance(partition, Partition):
        labels = np.asarray(partition)
        nothing = np.full(int(labels.max(initial=0)), np.nan)
        maps, lists = (labels, labels), (nothing, nothing)
    else:
        maps = partition.dynamic_roi_map, partition.static_roi_map
        lists = partition.dynamic_q_list, partition.static_q_list
    if len(shape) != 3 or maps[0].shape != shape[1:] or not maps[0].any():
        raise ConfigError(f"partition: expected labels (y, x) of frames (t, y, x), found {maps[0].shape} and {shape}")
    q_list = lists[0] if q is None else np.asarray(q, dtype=np.float64)
    if q_list.shape != lists[0].shape:
        raise ConfigError(f"q: expected one of each of {len(lists[0])} q-bins, found {q_list.shape}")
    return layout_of(*maps, q_list, lists[1])


def _scan(frames: NDArray[Any], layout: Layout, frame_time: float) -> Scan:
    """The movie as the catalog would describe it."""
    (num_frames, height, width), itemsize = frames.shape, frame_type(frames.dtype).itemsize
    return Scan(
        scan_id="frames",
        source="frames",
        format="",
        content=Content.FRAMES,
        num_frames=num_frames,
        height=height,
        width=width,
        itemsize=itemsize,
        num_q_bins=len(layout.dynamic_q_list),
        frame_time=frame_time,
        num_pixels=len(layout.order),
        stored_bytes=num_frames * height * width * itemsize,
    )


class _Movie:
    """Frames in memory, as the readers of files give them."""

    per_chunk = 1

    def __init__(self, frames: NDArray[Any]) -> None:
        self._frames = frames
        self.shape, self.dtype = frames.shape, frame_type(frames.dtype)
        self.damaged = np.empty(0, np.int64)

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        return np.ascontiguousarray(self._frames[start:stop:step], dtype=self.dtype)


class _Sums:
    """The sums of products that make C2, kept in memory: written tile by tile, as a product is."""

    def __init__(self, num_q_bins: int, num_frames: int, edge: int) -> None:
        self.values = np.full((num_q_bins, num_frames, num_frames), np.nan, np.float32)
        self.chunks = (1, edge, edge)

    def write_chunk(self, _array: Any, index: tuple[int, int, int], tile: np.ndarray) -> None:
        (q_bin, row, column), (_, height, width), edge = index, tile.shape, self.chunks[1]
        self.values[q_bin, row * edge :, column * edge :][:height, :width] = tile[0]

    def flush(self, *_place: Any, **_order: Any) -> None:
        """Nothing waits."""
