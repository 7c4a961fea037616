"""Correlate: frames -> two-time correlation and multi-tau g2 of every q-bin, one file a scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ainerd_hpc import __version__
from ainerd_hpc.archive import GroupWriter, array, reading_group, writing_group
from ainerd_hpc.config import digest
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats import reader
from ainerd_hpc.kernels import multitau, twotime
from ainerd_hpc.model_cost import embedding_bytes
from ainerd_hpc.stages import Stage, weights_digest
from ainerd_hpc.stages.ingest import sentinel
from ainerd_hpc.types import Content, Scan, Task

_CHUNK = 1024
"""Largest edge of a chunk of C2, frames."""
_C2_ATTRIBUTES: dict[str, Any] = {
    "baseline_reference": 1,
    "populated_elements": "all",
    "time_origin_location": "lower_left",
    "storage_mode": "one_array_q_first",
    "diagonal": "raw, with shot noise; not used in g2, fits or maps",
}


class Correlate(Stage):
    """Gives every scan its C2 and g2: from frames by correlation, from maps or published latents by reading them."""

    name = "correlate"
    quarantines = True

    def product(self, key: str) -> Path:
        return self.archive.correlation_path(key)

    def tasks(self, scans: Sequence[Scan]) -> Iterable[Task]:
        for scan in scans:
            c2_bytes = 4 * scan.num_frames**2
            yield Task(
                scan.scan_id,
                self.digest(scan),
                self._peak_bytes(scan),
                scan.num_frames * scan.height * scan.width * scan.itemsize or scan.num_q_bins * c2_bytes,
                scan.num_q_bins * c2_bytes,
                {"scan": scan},
            )

    def digest(self, scan: Scan) -> str:
        """Of the source, the partition and the options; not of how the frames are stored."""
        decoder = weights_digest(self.config.model) if scan.content is Content.LATENTS else ""
        baseline = str(self.config.source.baseline_reference)
        return digest(self.name, self.version, self.config.correlate, decoder, baseline, scan.digest, scan.partition)

    def _peak_bytes(self, scan: Scan) -> int:
        """Projected peak memory of one scan, beyond that of the process."""
        one_c2 = scan.num_frames**2
        if scan.content is not Content.FRAMES:
            # All maps as read (float64) and as float32 with the baseline added; the diagonals of one for its g2.
            return 16 * scan.num_q_bins * one_c2 + 48 * one_c2 + embedding_bytes(self.config.model.variant)
        shard = min(self.config.ingest.frames_per_shard, scan.num_frames) * scan.height * scan.width * scan.itemsize
        pixels = scan.num_frames * scan.num_pixels * scan.itemsize
        one_bin = scan.num_frames * scan.largest_bin * 8
        num_lags = len(multitau.delays(scan.num_frames, self.config.correlate.delays_per_level)[0])
        moments = 4 * 8 * num_lags * scan.largest_bin
        # C2: float64 product, its norm, float32 result, its chunks. Multi-tau: counts, a product, the level above.
        return pixels + max(3 * shard, 4 * one_bin + moments, one_bin + (8 + 8 + 4 + 8) * one_c2) + 2**26

    def work(self, task: Task) -> Mapping[str, float]:
        scan: Scan = task.args["scan"]
        attributes = {
            "digest": task.digest,
            "scan_id": scan.scan_id,
            "input_digest": scan.digest,
            "config_digest": digest(self.config.correlate),
            "partition": scan.partition,
            "simulated": scan.simulated,
            "frame_time": scan.frame_time,
            "ainerd_hpc_version": __version__,
            "kernel_version": self.version,
            "definition": "c2 = N sum_p I_p(t1) I_p(t2) / (sum_p I_p(t1) sum_p I_p(t2)), baseline 1",
        }
        with writing_group(self.product(task.key), attributes) as group:
            if scan.content is Content.FRAMES:
                self._correlate(scan, group)
            else:
                self._adopt(scan, group)
        return {"q_bins": float(scan.num_q_bins)}

    def _correlate(self, scan: Scan, group: GroupWriter) -> None:
        """C2 and g2 from the frames in the archive, q-bin by q-bin."""
        pixels = self._read_pixels(scan)
        c2 = _create_c2(group, scan)
        lines = []
        intensity = np.empty((scan.num_q_bins, scan.num_frames))
        for q_bin in range(scan.num_q_bins):
            counts, static_labels = pixels.of_bin(q_bin)
            c2[q_bin] = twotime.c2(counts)
            group.flush()
            intensity[q_bin] = twotime.intensity(counts)
            lines.append(multitau.g2(counts, static_labels, self.config.correlate.delays_per_level))
        lag = lines[0][0]
        _add_g2(group, scan, lag, np.stack([line[1] for line in lines]), np.stack([line[2] for line in lines]))
        group.add("dynamic_q_list", pixels.dynamic_q_list, ("q_bin",), units="1/angstrom")
        group.add("intensity", intensity.astype(np.float32), ("q_bin", "t1"), units="counts/pixel/frame")
        group.add("num_pixels", pixels.sizes, ("q_bin",))

    def _adopt(self, scan: Scan, group: GroupWriter) -> None:
        """C2 from its source as it is, g2 as the mean along its diagonals."""
        maps = self._source_maps(scan)
        c2 = _create_c2(group, scan)
        lines = []
        for q_bin in range(scan.num_q_bins):
            c2[q_bin] = maps[q_bin]
            group.flush()
            lines.append(twotime.g2_from_c2(maps[q_bin]))
        lag = np.arange(1, scan.num_frames)
        _add_g2(group, scan, lag, np.stack([line[0] for line in lines]), np.stack([line[1] for line in lines]))
        group.add("dynamic_q_list", np.full(scan.num_q_bins, np.nan), ("q_bin",), units="1/angstrom")

    def _source_maps(self, scan: Scan) -> np.ndarray:
        """(q_bin, t1, t2) float32 with baseline 1."""
        if scan.content is Content.C2:
            maps = reader(scan.format).read_c2(Path(scan.source))
            return np.asarray(maps + np.float32(1 - self.config.source.baseline_reference))
        import torch

        from ainerd_hpc.model import decode_latents, load_model

        torch.set_num_threads(self.config.executor.threads)
        if self.config.model.weights is None:
            raise ScanError(scan.source, "expected weights to decode the latents, found none", "set model.weights")
        model = load_model(self.config.model.variant, self.config.model.weights)
        latents = reader(scan.format).read_latents(Path(scan.source), scan.scan_id)
        return 1 + decode_latents(model, latents)  # the published maps are scaled to 0..1 above the baseline

    def _read_pixels(self, scan: Scan) -> Pixels:
        """The counts of all valid pixels, from frames and partition."""
        with reading_group(self.archive.partition_path(scan.partition)) as group:
            dynamic = array(group, "dynamic_roi_map")[...].ravel()
            static = array(group, "static_roi_map")[...].ravel()
            dynamic_q_list = array(group, "dynamic_q_list")[...]
        order = np.lexsort((static, dynamic))
        order = order[dynamic[order] > 0]
        with reading_group(self.archive.frames_path(scan.scan_id)) as group:
            frames = array(group, "frames")
            counts = np.empty((frames.shape[0], len(order)), dtype=frames.dtype)
            for start in range(0, frames.shape[0], frames.shards[0]):
                block = frames[start : start + frames.shards[0]]
                counts[start : start + len(block)] = block.reshape(len(block), -1)[:, order]
        _refuse_bad_pixels(counts, order, scan)
        sizes = np.bincount(dynamic[order], minlength=len(dynamic_q_list) + 1)[1:]
        return Pixels(counts, static[order], sizes, dynamic_q_list)


@dataclass(frozen=True, slots=True)
class Pixels:
    """Counts (t, p) of the valid pixels, sorted by q-bin."""

    counts: np.ndarray
    static_labels: np.ndarray
    """(p,)"""
    sizes: np.ndarray
    """(q_bin,) pixels in each q-bin."""
    dynamic_q_list: np.ndarray
    """(q_bin,) 1/angstrom."""

    def of_bin(self, q_bin: int) -> tuple[np.ndarray, np.ndarray]:
        """Counts (t, p) and static labels (p,) of one q-bin."""
        stop = int(self.sizes[: q_bin + 1].sum())
        columns = slice(stop - int(self.sizes[q_bin]), stop)
        return self.counts[:, columns], self.static_labels[columns]


def _refuse_bad_pixels(counts: np.ndarray, pixels: np.ndarray, scan: Scan) -> None:
    """Refuse counts (t, p) of valid pixels that are no counts; `pixels` (p,) are their numbers in the frame.

    Raises
    ------
    ScanError
        A pixel that the mask calls good is negative, or has the value of a dead one.
    """
    bad = np.flatnonzero((counts.min(axis=0) < 0) | (counts.max(axis=0) == sentinel(counts.dtype)))
    if len(bad):
        y, x = divmod(int(pixels[bad[0]]), scan.width)
        value = counts[:, bad[0]].min() if counts[:, bad[0]].min() < 0 else counts[:, bad[0]].max()
        problem = f"expected counts on the pixels that the mask calls good, found {value} at y {y}, x {x}"
        more = f" and {len(bad) - 1} more pixels" if len(bad) > 1 else ""
        raise ScanError(scan.source, problem + more, "mask them in the partition file")


def _create_c2(group: GroupWriter, scan: Scan) -> Any:
    edge = min(scan.num_frames, _CHUNK)
    shape = (scan.num_q_bins, scan.num_frames, scan.num_frames)
    return group.create("c2", shape, np.float32, ("q_bin", "t1", "t2"), (1, edge, edge), units="1", **_C2_ATTRIBUTES)


def _add_g2(group: GroupWriter, scan: Scan, lag: np.ndarray, g2: np.ndarray, g2_err: np.ndarray) -> None:
    group.add("lag", lag, ("lag",), units="frames")
    group.add("delay", lag * scan.frame_time, ("lag",), units="s")
    group.add("g2", g2.astype(np.float32), ("q_bin", "lag"), units="1")
    group.add("g2_err", g2_err.astype(np.float32), ("q_bin", "lag"), units="1", meaning="standard error")
