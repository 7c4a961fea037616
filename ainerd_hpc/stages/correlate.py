"""Correlate: counts -> two-time correlation and g2 of every q-bin, one file a scan."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc import __version__
from ainerd_hpc.archive.groups import GroupWriter, writing_group
from ainerd_hpc.archive.journal import record
from ainerd_hpc.archive.layout import recorded_digest
from ainerd_hpc.config import CorrelateConfig
from ainerd_hpc.console import tell
from ainerd_hpc.correlation.adopted import adopt, adopted_bytes
from ainerd_hpc.correlation.bad_frames import DAMAGED
from ainerd_hpc.correlation.belief import num_beyond, told
from ainerd_hpc.correlation.inputs import described, images_digest, monitor_digest
from ainerd_hpc.correlation.memory import fewest_parts
from ainerd_hpc.correlation.selection import as_correlated, selection
from ainerd_hpc.correlation.tiles import Tiles, tiles_for
from ainerd_hpc.digests import digest, weights_digest
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.scaling.cost_model import estimate_density
from ainerd_hpc.site.workers import worker_memory
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.types import PROCESS_BYTES, Content, Load, Scan, Task

if TYPE_CHECKING:
    from ainerd_hpc.archive.scans import Scans
    from ainerd_hpc.correlation.product import Arrays

_JOIN_BYTES = 2**28
"""Memory for putting a scan together from its parts: figures, and a tile at a time."""
_KIND = ["content", "num_frames", "height", "width", "itemsize", "num_q_bins", "num_pixels", "largest_bin"]
_KIND += ["num_static_bins", "dark", "flat", "pixels"]
"""Scans in which these are the same need memory by their sizes alone."""
_DEFINITIONS = {
    "plain": "c2 = N sum_p I_p(t1) I_p(t2) / (sum_p I_p(t1) sum_p I_p(t2)), baseline 1",
    "static": "the same of I divided by the mean of its static bin in that frame, baseline 1",
}


class Correlate(Stage):
    """Gives every scan its C2 and g2: from counts by correlation, from maps or published latents by reading them.

    A scan that does not fit into a worker's memory is split: into q-bins, a task and a file of its own for some of
    them, which `finish` puts together; a q-bin that does not fit either is correlated in blocks of its pixels.
    """

    name = "correlate"
    requires = ("ingest",)
    memory_knob = "maps.windows: C2 is made only where a window asks for it"
    version = 4
    quarantines = True
    remarks: ClassVar = {
        "q-bins beyond speckle": "C2 larger than speckle can make it: hot pixels, or a wrong mask? The page lists them",
        "empty q-bins": "without counts, so without a correlation",
    }

    def product(self, key: str) -> Path:
        scan_id, _, part = key.partition("/")
        whole = self.archive.correlation_path(scan_id)
        return self.archive.correlation_part_path(scan_id, part) if part else whole

    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        allowed = worker_memory(self.config.executor) - PROCESS_BYTES
        for scan in scans:
            if scan.content is Content.FRAMES:
                yield from self._tasks_of(scan, before.of_scan(self.name, scan), allowed)
            else:
                digest, size = before.of_scan(self.name, scan), scan.num_q_bins * 4 * scan.num_frames**2
                args, load = {"scan": scan}, Load(scan.num_frames, num_q_bins=scan.num_q_bins)
                yield Task(scan.scan_id, digest, adopted_bytes(self.config, scan), size, size, args, load)

    def most_tasks(self, scans: Scans) -> NDArray[np.int64]:
        """A task a q-bin, where the largest scan of its kind is split."""
        most = np.ones(len(scans), np.int64)
        stored, events, reader = map(scans.column, ("stored_bytes", "num_events", "reader_bytes"))
        for rows in scans.frame().groupby(_KIND).indices.values():
            scan = replace(scans[int(rows[0])], stored_bytes=stored[rows].max(), reader_bytes=reader[rows].max())
            if any(self._is_split(replace(scan, num_events=number)) for number in (0, events[rows].max())):
                most[rows] = max(1, scan.num_q_bins)
        return most

    def _is_split(self, scan: Scan) -> bool:
        if scan.content is not Content.FRAMES:
            return False
        allowed = worker_memory(self.config.executor) - PROCESS_BYTES
        return fewest_parts(self.config, scan, self.tiles(scan), allowed).num_parts > 1

    def _tasks_of(self, scan: Scan, digest: str, allowed: int) -> Iterator[Task]:
        tiles, area = self.tiles(scan), scan.height * scan.width
        split = fewest_parts(self.config, scan, tiles, allowed)
        write_bytes = 4 * scan.num_q_bins * tiles.num_written
        if split.num_parts > 1 and (self._is_joined(scan, digest) or self._complete_parts(scan, digest)):
            load = Load(scan.num_frames, num_q_bins=scan.num_q_bins)
            yield Task(scan.scan_id, digest, _JOIN_BYTES, write_bytes, write_bytes, {"scan": scan}, load)
            return
        for number, q_bins in enumerate(np.array_split(np.arange(scan.num_q_bins), split.num_parts)):
            part = f"/{number}of{split.num_parts}" if split.num_parts > 1 else ""
            args = {"scan": scan, "q_bins": (int(q_bins[0]), int(q_bins[-1]) + 1), "blocks": split.num_blocks}
            num_read = split.num_reads(self.config, scan) * scan.num_frames * area
            load, share = self._load(scan, tiles, len(q_bins), num_read), write_bytes // split.num_parts
            more = args, load, self.config.executor.threads
            yield Task(scan.scan_id + part, digest, split.peak_bytes, num_read * scan.itemsize, share, *more)

    def _load(self, scan: Scan, tiles: Tiles, num_q_bins: int, num_read: int) -> Load:
        """The load of some q-bins of a scan, which have their share of its pixels."""
        return Load(
            num_frames=tiles.num_frames,
            num_pixels=scan.num_pixels * num_q_bins // scan.num_q_bins,
            num_read=num_read,
            form=self.config.ingest.form,
            is_corrected=scan.is_corrected,
            num_q_bins=num_q_bins,
            density=estimate_density(scan),
            num_products=tiles.num_products,
        )

    def _is_joined(self, scan: Scan, digest: str) -> bool:
        return recorded_digest(self.product(scan.scan_id)) == digest

    def _complete_parts(self, scan: Scan, digest: str) -> list[Path]:
        """The parts of a scan where all of one division are there and current; else none."""
        for first in sorted(self.product(f"{scan.scan_id}/0").parent.glob("0of*.zarr.zip")):
            num = int(first.name.removesuffix(".zarr.zip").partition("of")[2])
            paths = [self.product(f"{scan.scan_id}/{number}of{num}") for number in range(num)]
            if all(recorded_digest(path) == digest for path in paths):
                return paths
        return []

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Compile the kernels once, here, before every worker does it for itself."""
        if any(task.args["scan"].content is Content.FRAMES for task in tasks):
            from ainerd_hpc.correlation.compile import compile_kernels

            scans = [task.args["scan"] for task in tasks]
            compile_kernels(any(one.is_corrected for one in scans), any(one.num_events for one in scans))

    def tiles(self, scan: Scan) -> Tiles:
        """The tiles of C2 that the maps of a scan of frames need."""
        return tiles_for(self.config.maps, as_correlated(self.config.correlate, scan).num_frames)

    def scan_digest(self, scan: Scan, before: Before) -> str:
        """Digest of the source, the partition, the corrections and the options; not of how counts are stored or gone
        through.

        Raises
        ------
        ConfigError
            A file that corrections need does not exist, or there is no monitor to divide by.
        """
        decoder = weights_digest(self.config.model) if scan.content is Content.LATENTS else ""
        baseline = str(self.config.source.baseline_reference)
        ends = self._ends(scan.num_frames) if scan.content is Content.FRAMES else []
        more = [self._images(scan), monitor_digest(self.config.correct, scan)] if scan.content is Content.FRAMES else []
        return digest(
            self.name, self.version, self._options, decoder, baseline, scan.digest, scan.partition, ends, more
        )

    @cached_property
    def _options(self) -> CorrelateConfig:
        return self.config.correlate.model_copy(update={"form": "auto", "device": "cpu"})

    def _ends(self, num_frames: int) -> list[str]:
        """Where the rows of tiles end, which most scans share."""
        if num_frames not in self._known_ends:
            chosen = selection(self.config.correlate, num_frames)
            self._known_ends[num_frames] = [str(end) for end in tiles_for(self.config.maps, chosen.num_frames).ends]
        return self._known_ends[num_frames]

    @cached_property
    def _known_ends(self) -> dict[int, list[str]]:
        return {}

    def _images(self, scan: Scan) -> str:
        """Digest of the corrections, which most scans share."""
        if self.config.correlate.frame_normalisation == "monitor" and self.config.correct.monitor is None:
            raise ConfigError(
                "correlate.frame_normalisation: monitor: expected correct.monitor with it; give its dataset"
            )
        key = scan.dark, scan.flat
        if key not in self._known_images:
            self._known_images[key] = images_digest(self.config.correct, scan)
        return self._known_images[key]

    @cached_property
    def _known_images(self) -> dict[tuple[str, str], str]:
        return {}

    def work(self, task: Task) -> Mapping[str, float]:
        scan: Scan = task.args["scan"]
        if scan.content is Content.FRAMES and "q_bins" not in task.args:
            return num_beyond(self._join(scan, task.digest))
        with writing_group(self.product(task.key), self._attributes(scan, task.digest)) as group:
            if scan.content is Content.FRAMES:
                return self._correlate(task, group)
            found = _told(scan, adopt(self.config, scan, group))
        return {"q_bins": float(scan.num_q_bins)} | num_beyond(found)

    def _attributes(self, scan: Scan, task_digest: str) -> dict[str, Any]:
        return {
            "digest": task_digest,
            "scan_id": scan.scan_id,
            "input_digest": scan.digest,
            "config_digest": digest(self.config.correlate),
            "options": self.config.correlate.model_dump(mode="json"),
            "corrections": described(self.config.correct, scan),
            "partition": scan.partition,
            **({"detector_pixels": scan.pixels} if scan.pixels else {}),
            "simulated": scan.simulated,
            "frame_time": as_correlated(self.config.correlate, scan).frame_time,
            "ainerd_hpc_version": __version__,
            "kernel_version": self.version,
            "definition": _DEFINITIONS[self.config.correlate.normalisation],
            **({"missing": scan.missing} if scan.missing else {}),
            **({"notes": scan.notes} if scan.notes else {}),
        }

    def _correlate(self, task: Task, group: GroupWriter) -> Mapping[str, float]:
        """C2 and g2 of the q-bins of one task, from the counts in the archive or the source."""
        from ainerd_hpc.correlation.product import write_figures
        from ainerd_hpc.correlation.task import correlate_q_bins

        scan: Scan = task.args["scan"]
        if selection(self.config.correlate, scan.num_frames).num_frames < 2:
            problem = f"expected two frames or more to correlate, found {scan.num_frames} in the file"
            raise ScanError(scan.source, problem, "correct correlate.begin_frame, end_frame, stride_frames")
        arrays = correlate_q_bins(self.config, self.archive, task, self.tiles(scan), group)
        if "/" not in task.key:
            arrays = self._judged(scan, arrays)
        write_figures(group, arrays)
        return {"q_bins": float(len(arrays["num_pixels"][0]))} | _found(arrays, task.args["q_bins"][0] == 0)

    def _judged(self, scan: Scan, arrays: Arrays) -> Arrays:
        """All figures of a whole scan: with the fits, and what of it cannot be believed, which is told."""
        from ainerd_hpc.correlation import belief
        from ainerd_hpc.correlation.product import fits

        arrays = arrays | fits(arrays, as_correlated(self.config.correlate, scan).frame_time)
        return arrays | _told(scan, belief.of_counts(arrays, self.config.correlate))

    def finish(self, scans: Sequence[Scan], before: Before) -> None:
        """Put the scans together that were correlated in parts."""
        from ainerd_hpc.archive.scans import Scans  # which workers do not need

        folders = {path.stem: path for path in self.archive.correlation_path("").parent.glob("*.parts")}
        scans = Scans.of(scans)
        for scan in scans.where(scans.among(folders)):
            digest = before.of_scan(self.name, scan)
            if not self._is_joined(scan, digest):
                record(self.archive.root, "begun", self.name, scan.scan_id, digest)
                self._join(scan, digest)
                size = self.product(scan.scan_id).stat().st_size
                record(self.archive.root, "done", self.name, scan.scan_id, digest, bytes_written=size)
            shutil.rmtree(folders[scan.scan_id])

    def _join(self, scan: Scan, digest: str) -> Arrays:
        """Put a scan together from its parts, and give its figures."""
        from ainerd_hpc.correlation.product import C2_SUMS, create_c2, join, write_figures

        paths = self._complete_parts(scan, digest)
        arrays = self._judged(scan, join(paths))
        num_frames = as_correlated(self.config.correlate, scan).num_frames
        with writing_group(self.product(scan.scan_id), self._attributes(scan, digest)) as group:
            create_c2(group, scan.num_q_bins, self.tiles(scan), num_frames)
            bins = [len(part) for part in np.array_split(np.arange(scan.num_q_bins), len(paths))]
            for path, offset in zip(paths, np.cumsum([0, *bins[:-1]]), strict=True):
                group.adopt(path, C2_SUMS, int(offset))
            write_figures(group, arrays)
        return arrays


def _found(arrays: Arrays, is_first: bool) -> dict[str, float]:
    """How much of a scan was left out, where there is something; of pixels and frames told once of a scan."""

    masked = int(np.count_nonzero(arrays["dead_pixel_mask"][0])) if "dead_pixel_mask" in arrays else 0
    numbers = {
        "masked pixels": is_first * masked,
        "dead pixels": is_first * (len(arrays["dead_pixels"][0]) - masked),
        "hot pixels": is_first * len(arrays["hot_pixels"][0]),
        "missing pixels": is_first * (len(arrays["missing_pixels"][0]) if "missing_pixels" in arrays else 0),
        "bad frames": is_first * int(arrays["is_bad_frame"][0].sum()),
        "damaged frames": is_first * int((arrays["bad_frame_reason"][0] == DAMAGED).sum()),
        "empty q-bins": int(np.isnan(arrays["c2_scale"][0]).all(axis=1).sum()),
    }
    return {name: float(number) for name, number in numbers.items() if number} | num_beyond(arrays)


def _told(scan: Scan, found: Arrays) -> Arrays:
    if text := told(found):
        tell(f"{scan.scan_id}: {text}")
    return found
