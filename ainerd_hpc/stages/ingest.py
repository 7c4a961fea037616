"""Ingest: detector files of any format -> counts in Zarr, one file a scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.archive.groups import GroupWriter, writing_group
from ainerd_hpc.correlation.memory import BYTES_PER_EVENT, most_events, reading_bytes
from ainerd_hpc.correlation.selection import Selection
from ainerd_hpc.digests import digest
from ainerd_hpc.scaling.cost_model import SPARSE, counts_load
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.types import Content, Scan, Task

if TYPE_CHECKING:
    from ainerd_hpc.archive.scans import Scans
    from ainerd_hpc.correlation.counts.layout import Layout
    from ainerd_hpc.formats.detector_pixels import DetectorPixels
    from ainerd_hpc.formats.reader import Frames
    from ainerd_hpc.kernels.counts import Events

_EVENTS_PER_CHUNK, _CHUNKS_PER_SHARD = 2**16, 64
_BASE = 2**26
"""Bytes of a task, whatever it copies."""
_EVENTS_IN_BASE = 2**21
"""Events that fit into these: those of a small scan may be some more than its size tells."""


class Ingest(Stage):
    """Copies the counts of a scan. Two-time maps stay where they are: they need no task."""

    name = "ingest"
    version = 2
    memory_knob = "ingest.frames_per_shard, or copy nothing with ingest.form: none"
    quarantines = True

    def product(self, key: str) -> Path:
        return self.archive.frames_path(key)

    def scan_digest(self, scan: Scan, before: Before) -> str:
        return digest(self.name, self.version, self.config.ingest, self.config.correct.marks, scan.digest)

    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        if self.config.ingest.form == "none":
            return
        for scan in scans:
            if scan.content is Content.FRAMES:
                size = scan.num_frames * scan.height * scan.width * scan.itemsize
                key = before.of_scan(self.name, scan)
                load = counts_load(scan, self.config.ingest.form)
                more = {"scan": scan}, load, self.config.executor.threads
                yield Task(scan.scan_id, key, self._peak_bytes(scan), size, size, *more)

    def takes(self, scans: Scans) -> NDArray[np.bool_]:
        is_taken = scans.column("content") == Content.FRAMES.value
        return np.asarray(is_taken & (self.config.ingest.form != "none"), dtype=bool)

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Compile the kernels once, here, before every worker does it for itself."""
        from ainerd_hpc.correlation.compile import compile_reading

        compile_reading(any(task.args["scan"].num_events for task in tasks))

    def _peak_bytes(self, scan: Scan) -> int:
        """Projected peak memory of one scan, beyond that of the process."""
        frame = scan.height * scan.width * scan.itemsize
        shard = min(self.config.ingest.frames_per_shard, scan.num_frames) * frame
        # A block as read, its copy in Zarr, its compressed chunks, and the shard put together from them.
        as_frames = 4 * shard + _BASE if self._may_be_frames(scan) else 0
        if self.config.ingest.form == "frames":
            return as_frames
        as_events = _BASE + BYTES_PER_EVENT * self._most_events(scan) + reading_bytes(self.config, scan) + 50 * frame
        return int(max(as_frames, as_events))

    def _most_events(self, scan: Scan) -> float:
        """Events of a scan that there is memory for."""
        num_counts = scan.num_frames * scan.height * scan.width
        share = 1.0 if self.config.ingest.form == "events" else SPARSE
        return 1.2 * min(share * num_counts, most_events(scan))

    def _may_be_frames(self, scan: Scan) -> bool:
        """Not where the file is known to hold few events, by their sample too."""
        density = scan.num_events / (scan.num_frames * scan.height * scan.width)
        is_sparse = self.config.ingest.form == "events" or (self.config.ingest.form == "auto" and density < SPARSE / 2)
        return not (scan.num_events and is_sparse)

    def work(self, task: Task) -> Mapping[str, float]:
        from ainerd_hpc.correlation.counts.dead_values import marked
        from ainerd_hpc.correlation.counts.pixels import open_source
        from ainerd_hpc.formats.detector_pixels import PIXEL_MASK, pixels_of
        from ainerd_hpc.formats.missing import MISSING, missing_of

        scan: Scan = task.args["scan"]
        attributes = {
            "digest": task.digest,
            "scan_id": scan.scan_id,
            "source": Path(scan.source).name,
            "frame_time": scan.frame_time,
            "num_frames": scan.num_frames,
            "height": scan.height,
            "width": scan.width,
            "simulated": scan.simulated,
            "frame_time_units": "s",
        }
        with open_source(scan, self.config.correct) as frames:
            counts, missing = marked(frames, self.config.correct), missing_of(frames)
            chosen, pixels = Selection(0, scan.num_frames, bad=tuple(missing.frames.tolist())), pixels_of(frames)
            layout = _good_pixels(scan, pixels)
            is_sparse = self._form(counts, scan, layout, chosen) == "events"
            found = self._find(counts, scan, layout, chosen) if is_sparse else None
            attributes |= {"form": "events" if found else "frames", **pixels.attributes}
            with writing_group(self.product(task.key), attributes) as group:
                for name, numbers in zip(MISSING, missing, strict=True) if str(missing) else ():
                    group.add(name, numbers, (name,))
                if pixels.mask is not None:
                    group.add(PIXEL_MASK, pixels.mask, ("y", "x"), meaning="bits of NXdetector; 0: a good pixel")
                if found:
                    figures = self._write_events(*found, scan, layout, group)
                else:
                    figures = self._write_frames(frames, task, group)
                if len(frames.damaged):
                    group.add("damaged_frames", frames.damaged, ("damaged_frame",))
                return figures

    def _form(self, frames: Frames, scan: Scan, layout: Layout, chosen: Selection) -> str:
        from ainerd_hpc.correlation.counts.pixels import sample_counts

        if frames.dtype.kind == "f" or self.config.ingest.form == "frames":
            return "frames"
        if self.config.ingest.form == "events":
            return "events"
        sample = sample_counts(frames, layout, chosen)
        return "events" if sample.density[0] < SPARSE else "frames"

    def _find(self, frames: Frames, scan: Scan, layout: Layout, chosen: Selection) -> tuple[Events, np.ndarray] | None:
        """All events, and which pixels of the layout are dead, (n,); None where large counts make more than there is
        memory for."""
        from ainerd_hpc.correlation.counts.gathering import Gathering
        from ainerd_hpc.kernels.choice import EVENTS

        gathering = Gathering(frames, layout, chosen, self.config.executor.threads)
        most = int(self._most_events(scan)) + _EVENTS_IN_BASE
        (events,) = gathering.gather([0], [EVENTS], [frames.dtype], most)
        return (cast("Events", events), gathering.is_dead) if events is not None else None

    def _write_events(
        self, events: Events, is_bad: np.ndarray, scan: Scan, layout: Layout, group: GroupWriter
    ) -> Mapping[str, float]:
        sizes, is_dead = np.zeros(scan.height * scan.width, np.int64), np.ones(scan.height * scan.width, bool)
        sizes[layout.order], is_dead[layout.order] = np.diff(events.pointer), is_bad
        time_type = np.uint16 if scan.num_frames <= 2**16 else np.uint32
        pointer = np.append(0, np.cumsum(sizes))
        group.add("pixel_pointer", pointer, ("pixel_edge",), meaning="first event of each pixel, row by row")
        group.add("dead_pixels", np.flatnonzero(is_dead), ("dead_pixel",))
        for name, values, dtype, units in (
            ("time", events.time, time_type, "frames"),
            ("count", events.count, np.uint8, "counts"),
        ):
            chunk = min(_EVENTS_PER_CHUNK, max(1, len(values)))
            shard = chunk * min(_CHUNKS_PER_SHARD, max(1, -(-len(values) // chunk)))
            stored = group.create(name, values.shape, dtype, ("event",), (chunk,), (shard,), units=units)
            for start in range(0, len(values), shard):
                stored[start : start + shard] = values[start : start + shard].astype(dtype)
                group.flush()
        return {"counts": float(events.count.sum(dtype=np.int64))}

    def _write_frames(self, frames: Frames, task: Task, group: GroupWriter) -> Mapping[str, float]:
        scan: Scan = task.args["scan"]
        fitting = (task.peak_bytes - _BASE) // (4 * scan.height * scan.width * frames.dtype.itemsize)
        per_shard = min(self.config.ingest.frames_per_shard, scan.num_frames, max(1, fitting))
        per_chunk = int(np.gcd(per_shard, self.config.ingest.frames_per_chunk))
        shape, frame = (scan.num_frames, scan.height, scan.width), (scan.height, scan.width)
        chunks, shards = (per_chunk, *frame), (per_shard, *frame)
        array = group.create("frames", shape, frames.dtype, ("t", "y", "x"), chunks, shards, units="counts")
        for start in range(0, scan.num_frames, per_shard):
            array[start : start + per_shard] = frames.read(start, start + per_shard)
            group.flush()
        return {}


def _good_pixels(scan: Scan, pixels: DetectorPixels) -> Layout:
    """The layout of all pixels in one bin, as the events are stored: any q map finds its own among them.

    Pixels that the file masks have no events.
    """
    from ainerd_hpc.correlation.counts.layout import Layout

    num = scan.height * scan.width
    none = np.empty(0)
    layout = Layout(np.arange(num, dtype=np.int32), np.array([0, num]), np.ones(num, np.int32), none, none)
    return layout if pixels.is_masked is None else layout.without(pixels.is_masked)
