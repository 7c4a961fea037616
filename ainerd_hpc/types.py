"""The small, picklable records that travel between the parts. None of them holds an array."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal


class Shape(Enum):
    """How a stage is spread over a machine."""

    ARRAY = "array"
    """Independent tasks, on any executor."""
    DDP = "ddp"
    """Ranks that train together, data-parallel."""
    SINGLE = "single"
    """One process on one fat node."""


class Content(Enum):
    """What a scan's source file holds."""

    FRAMES = "frames"
    """Detector images (t, y, x)."""
    C2 = "c2"
    """Two-time correlation maps (q_bin, t1, t2)."""
    LATENTS = "latents"
    """Latent vectors of published maps, to be decoded to C2 (q_bin, d)."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One measured series; a row of the catalog."""

    scan_id: str
    source: str
    """Path of the file that holds the data."""
    format: str
    """Name of the reader in the registry of `formats`."""
    content: Content
    num_frames: int
    height: int
    """Rows of a frame; 0 where the source holds no frames."""
    width: int
    itemsize: int
    """Bytes of one stored count."""
    num_q_bins: int
    frame_time: float
    """Frame period, s."""
    start_time: float = float("nan")
    """Start of the scan, s, on the clock of the sample log (UTC epoch for ISO dates)."""
    partition: str = ""
    """Digest of the partition (mask and q-bins), which names its product; empty where the source needs none."""
    num_pixels: int = 0
    """Valid pixels in all q-bins together."""
    largest_bin: int = 0
    """Valid pixels in the largest q-bin."""
    num_static_bins: int = 0
    """Static bins of the partition."""
    stored_bytes: int = 0
    """Size of the source file."""
    num_events: int = 0
    """Events in a source file that holds such; 0 where it holds frames."""
    reader_bytes: int = 0
    """Memory that reading takes, besides what is read."""
    simulated: bool = False
    count_time: float = float("nan")
    """Exposure of a frame, s."""
    energy: float = float("nan")
    """Photon energy, keV."""
    distance: float = float("nan")
    """Sample to detector, m."""
    pixel_size: float = float("nan")
    """m."""
    beam_center_x: float = float("nan")
    """Column of the direct beam, pixels."""
    beam_center_y: float = float("nan")
    """Row of the direct beam, pixels."""
    detector: str = ""
    pixels: str = ""
    """What its file says of its own pixels (masks, limits of counts), and what of it is not used; empty: nothing."""
    metadata_file: str = ""
    """Path of the metadata file that it is paired with; empty where its own file says all, or nothing does."""
    partition_file: str = ""
    """Path of its partition file."""
    dark: str = ""
    """Dark that its counts are corrected with, `FILE` or `FILE:/dataset`; empty: none."""
    flat: str = ""
    """Flat field, in the same form."""
    missing: str = ""
    """What no file holds of its frames, in words; they are bad frames, and pixels that are in no frame are left out."""
    notes: str = ""
    """What a user has to know of it, in one line: frames that were put in order, values that no beamline has."""
    digest: str = ""
    """Fingerprint of the scan: its name, frame period and start, and its source files' names, sizes and dates."""
    state: str = "found"
    """found | ingested | quarantined."""

    @property
    def duration(self) -> float:
        """Length of the scan, s."""
        return self.num_frames * self.frame_time

    @property
    def is_corrected(self) -> bool:
        """Whether it has a dark or a flat field: its counts are no whole numbers any more."""
        return bool(self.dark or self.flat)

    def with_state(self, state: str) -> Scan:
        """The same scan in another state."""
        return replace(self, state=state)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a scan is in quarantine: a row of quarantine.jsonl."""

    scan_id: str
    stage: str
    reason: str
    """One line: what, where, expected, found, next step."""
    digest: str
    """Digest of the task that failed: with other input or config the scan is tried again by itself; empty where the
    cause may pass: it is tried again by the next run."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much a task has to do, from metadata; the cost model turns it into seconds. What it has none of is 0."""

    num_frames: int = 0
    num_pixels: int = 0
    """Pixels of a frame that the task takes: all of them, or those of its q-bins."""
    num_read: int = 0
    """Counts that are read, all pixels of all frames; again where they are read more than once."""
    form: str = "auto"
    """How the counts are kept, as in `ingest.form`."""
    is_corrected: bool = False
    """Whether the counts are no whole numbers."""
    num_q_bins: int = 0
    density: float = float("nan")
    """Events per pixel and frame, estimated; NaN where nothing tells."""
    num_products: int = 0
    """Entries of C2 that are computed, of one q-bin."""
    num_maps: int = 0
    num_placed: int = 0
    """Maps that are put among those."""
    num_entries: int = 0
    """Entries of C2 in all windows together that are made into maps, or shown."""
    num_epochs: int = 0
    network: str = ""
    """Name of the network that the maps go through."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """What it is trained in, as `train.precision`."""


@dataclass(frozen=True, slots=True)
class Task:
    """A unit of work of one stage: it makes one product."""

    key: str
    """Names the product; unique in its stage; the scan_id for tasks of one scan, `<scan_id>/<part>` for its parts."""
    digest: str
    """Digest of inputs, config slice and kernel version: what the product must record to count as done."""
    peak_bytes: int
    """Projected peak memory of the process, beyond `types.PROCESS_BYTES`."""
    read_bytes: int
    write_bytes: int
    args: Mapping[str, Any] = field(default_factory=dict)
    load: Load = Load()
    threads: int = 1
    """Threads that work on it at a time, in all its processes together."""
    seconds: float = 0.0
    """Predicted time on this machine, with these threads; 0 where nothing is known."""
    queued: float | None = None
    """When it was handed to an executor, s since the epoch; None before."""

    @property
    def scan_id(self) -> str:
        """The scan that the task is about; its key, or what stands before a slash in it."""
        return self.key.partition("/")[0]

    def as_queued(self) -> Task:
        """The same task, handed to an executor now."""
        return replace(self, queued=time.time())


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a worker returns: figures, never arrays."""

    key: str
    digest: str
    """That of the task; empty where it failed for a cause outside of it that may pass."""
    seconds: float = 0.0
    bytes_written: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    """Why it failed, in one line; empty when it did not."""
    trace: str = ""
    """The traceback of a failure that nobody foresaw."""
    is_fatal: bool = False
    """The machine failed, not the scan: the run has to stop."""
    worker_died: bool = False
    """There is no product: the process that ran the task ended before the task did."""
    damaged: str = ""
    """Path of the product of an earlier stage that is missing or damaged, where it failed for this."""

    @property
    def scan_id(self) -> str:
        """The scan that its task is about."""
        return self.key.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do in one stage, from metadata alone."""

    stage: str
    shape: Shape
    tasks: tuple[Task, ...]
    num_done: int = 0
    quarantined: tuple[Problem, ...] = ()
    """Scans that failed before, on the same input with the same config: not tried again."""

    @property
    def read_bytes(self) -> int:
        return sum(task.read_bytes for task in self.tasks)

    @property
    def write_bytes(self) -> int:
        return sum(task.write_bytes for task in self.tasks)

    @property
    def seconds(self) -> float:
        """Predicted time of all tasks, one after the other."""
        return sum(task.seconds for task in self.tasks)

    @property
    def core_hours(self) -> float:
        """Predicted time that all tasks together hold a core."""
        return sum(task.seconds * task.threads for task in self.tasks) / 3600

    @property
    def peak_bytes(self) -> int:
        """Largest projected memory of a worker process, with its own base."""
        return max((task.peak_bytes for task in self.tasks), default=0) + PROCESS_BYTES if self.tasks else 0


@dataclass(frozen=True, slots=True)
class StageReport:
    """What a stage did in this run."""

    stage: str
    num_done: int
    """Products made in this run."""
    num_kept: int
    """Products that were already there and current."""
    num_quarantined: int
    seconds: float
    """Time from the plan to the end, with all workers."""
    bytes_written: int
    figures: Mapping[str, float] = field(default_factory=dict)
    task_seconds: float = 0.0
    """Time of all tasks made in this run, one after the other."""
    predicted_seconds: float = 0.0
    """The same, as it was predicted."""
    remarks: tuple[str, ...] = ()
    """Lines about figures that a person should know of."""

    @property
    def off_by(self) -> float:
        """How many times as long as predicted the tasks took; NaN where none was predicted, or none was made."""
        return self.task_seconds / self.predicted_seconds if self.predicted_seconds else float("nan")


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How the jobs of a stage stand, as texts for a table; empty where it has none."""

    state: str = ""
    """running, queued, waiting, failed, cancelled, not run; where it is empty, the products say: done, to do."""
    jobs: str = ""
    """How many of its jobs are in which state."""
    rate: str = ""
    """Tasks that are finished in a time."""
    left: str = ""
    """Time, at this rate."""


READ_AHEAD = 2**26
"""Bytes of maps that a reader keeps, so that a file is opened once for all that is read of it."""
MAP_SIZE = 256
"""Rows and columns of a map, the input of the published network."""
CELLS = (3, 60, 16)
"""The cells of a map, for networks that sort by them: mean, spread and sureness at each log lag and age."""
PROCESS_BYTES = 640 * 2**20
"""Resident memory of a worker process with its libraries loaded and no data (measured: 300-570 MB, with torch)."""
