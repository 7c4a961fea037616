"""Seconds of every task, from what it has to do and from what this machine takes for it.

A formula a stage: a sum of terms, each of which runs may show to take longer or shorter (`scaling.fitting`). Constants
that `ainerd-hpc calibrate` does not measure were fitted to the CPU seconds of tasks of simulated archives on two cores
of an AMD EPYC with AVX-512 (2026-11-30; `python -m benchmarks.predictions` shows how far off they are), and are scaled
by `Machine.slowness`. They hold for processors: a GPU is faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from ainerd_hpc.kernels import choice
from ainerd_hpc.models.registry import network
from ainerd_hpc.scaling.fitting import Fitted, load_fitted
from ainerd_hpc.site.calibration import Machine, load_machine
from ainerd_hpc.types import Content, Load, Plan, Scan, Task

SPARSE = 0.04
"""Share of pixels with a photon below which events are smaller and faster to correlate than frames (benchmarks)."""
_BYTES_PER_EVENT_IN_FILE = 5
_KEPT_OF_FRAMES, _KEPT_OF_EVENTS = 0.62, 0.35
"""What a copy takes of the bytes of a compressed source."""
_TASK, _SHARD = 0.015, 0.02
"""Opening inputs, publishing a product and noting it; reading any frame of a copy, which decodes its shard."""
_SIMULATED_COUNT, _SIMULATED_PRODUCT = 47e-9, 1.6e-10
"""Drawing the photons of a pixel in a frame; a share of its field in each of the other frames."""
_STORED_EVENT, _READ_EVENT = 40e-9, 3e-9
"""Compressing an event into the archive, and reading it there."""
_C2_ENTRY, _Q_BIN = 1e-8, 2.5e-3
"""Normalising and storing an entry of C2; the curves and fits of a q-bin."""
_MAP = 3.5e-3
"""Fitting the g2 of a window, and storing its map."""
_EMBEDDING_START, _TRAINING_START = 0.05, 2.0
"""Loading the network; and loading what trains it."""
_CLUSTERING_START, _NEIGHBOURS_START = 7.3, 27.0
"""Loading UMAP and HDBSCAN; compiling the search for neighbours that UMAP takes for many points."""
_MOST_PAIRED = 4096
"""Points above which it does so, and no longer compares all pairs."""
_POINT, _PAIR, _POINT_OF_MANY, _PLACED = 2e-3, 8e-7, 1.2e-3, 5e-5
"""A point, and a pair of points, in two reductions and the grouping of a few; a point of many."""
_REPORT_START, _SHOWN_MAP, _SHOWN_ENTRY = 2.0, 2.5e-3, 1.5e-8
"""Loading the network; reading a map for its thumbnail; an entry of C2 of a map that is shown at full size."""


Terms = Mapping[str, float]
"""What the time of a task is made of, by name: seconds each."""


def predict(plan: Plan, machine: Machine | None = None, fitted: Fitted | None = None) -> Plan:
    """Fill in the predicted seconds of the tasks of a plan.

    Parameters
    ----------
    plan : Plan
    machine : Machine, optional
        Default: this one.
    fitted : Fitted, optional
        What runs have shown of the formulas. Default: what is kept for this machine; nothing for another one.

    Returns
    -------
    Plan
        Its tasks keep 0 seconds where there is no formula for the stage.
    """
    if plan.stage not in FORMULAS or not plan.tasks:
        return plan
    if fitted is None:
        fitted = {} if machine else load_fitted()
    known = machine or load_machine()
    factors = fitted[plan.stage].factors if plan.stage in fitted else {}
    tasks = (replace(task, seconds=task_seconds(plan.stage, task, known, factors)) for task in plan.tasks)
    return replace(plan, tasks=tuple(tasks))


def task_seconds(stage: str, task: Task, machine: Machine, factors: Mapping[str, float] | None = None) -> float:
    """Seconds of a task with its threads: the sum of its terms, each times its factor, 1 unless one is given."""
    factors = factors or {}
    return sum(factors.get(name, 1.0) * value for name, value in FORMULAS[stage](task, machine).items())


def estimate_density(scan: Scan) -> float:
    """Events per pixel and frame: as many as the file holds, or as its size lets one expect; NaN where nothing does."""
    num_counts = scan.num_frames * scan.height * scan.width
    num_events = scan.num_events or scan.stored_bytes / _BYTES_PER_EVENT_IN_FILE
    return min(1.0, num_events / num_counts) if num_counts and num_events else math.nan


def is_sparse(density: float) -> bool:
    """Whether counts are kept as events by `ingest.form: auto`; unknown density counts as dense, which takes longer."""
    return density < SPARSE


def simulate(task: Task, machine: Machine) -> Terms:
    """Counts x (draw + frames x product): the field of a pixel in a frame is a sum over the frames before."""
    num_counts = task.load.num_frames * task.load.num_pixels
    terms = {
        "task": _TASK,
        "draw": num_counts * _SIMULATED_COUNT,
        "product": num_counts * task.load.num_frames * _SIMULATED_PRODUCT,
    }
    return _times(machine.slowness, terms)


def ingest(task: Task, machine: Machine) -> Terms:
    """Counts x (read and compressed) as frames; as events (counts x read + events x (found and kept)) / threads."""
    load, rates, opened = task.load, machine.rates, {"task": machine.slowness * _TASK}
    if not _are_events(task):
        return {**opened, "frames": load.num_read * rates.stored_count}
    num_events = _known(load.density) * load.num_read
    event = machine.costs.event + machine.slowness * _STORED_EVENT
    return opened | _times(1 / task.threads, {"read": load.num_read * rates.read_count, "events": num_events * event})


def correlate(task: Task, machine: Machine) -> Terms:
    """Fits + (counts x read + the faster form of `kernels.choice` + entries of C2 x store) / threads."""
    parallel = {
        "read": _reading(task, machine),
        "kernel": _correlating(task, machine),
        "store": machine.slowness * _C2_ENTRY * task.write_bytes / 4,
    }
    shard = _SHARD if task.load.form != "none" and not _are_events(task) else 0.0
    alone = _times(machine.slowness, {"task": _TASK + shard, "fits": _Q_BIN * task.load.num_q_bins})
    return alone | _times(1 / task.threads, parallel)


def _times(factor: float, terms: Terms) -> dict[str, float]:
    return {name: factor * value for name, value in terms.items()}


def _reading(task: Task, machine: Machine) -> float:
    """Thread seconds to read the counts: in place, or as they were copied into the archive."""
    load = task.load
    if load.form == "none":
        return load.num_read * machine.rates.read_count
    if _are_events(task):
        return load.num_read * _known(load.density) * machine.slowness * _READ_EVENT
    return load.num_read * machine.rates.archived_count


def _correlating(task: Task, machine: Machine) -> float:
    """Thread seconds of C2 and g2 of all pixels, in the form that is faster at the mean density."""
    load = task.load
    density = _known(load.density)
    known = choice.Load(load.num_pixels, load.num_frames, load.num_products, density, not load.is_corrected)
    by_form = choice.seconds(known, machine.costs)
    return by_form[choice.DENSE] if load.is_corrected else min(by_form.values())


def _are_events(task: Task) -> bool:
    return task.load.form == "events" or (task.load.form == "auto" and is_sparse(task.load.density))


def _known(density: float) -> float:
    """The density; 1 where it is unknown: every pixel may have a photon in every frame."""
    return 1.0 if math.isnan(density) else density


def maps(task: Task, machine: Machine) -> Terms:
    """Maps x (fit and store) + entries of their windows x resample."""
    alone = _times(machine.slowness, {"task": _TASK, "maps": _MAP * task.load.num_maps})
    return {**alone, "entries": machine.rates.map_entry * task.load.num_entries}


def train(task: Task, machine: Machine) -> Terms:
    """Start + maps x epochs x learning / threads of all ranks; without epochs, weights are only adopted."""
    load = task.load
    learning = network(load.network).training_seconds(load.num_maps, load.num_epochs, load.precision, task.threads)
    start = _TRAINING_START if load.num_epochs else _EMBEDDING_START
    return {"start": machine.slowness * start, "learning": machine.network_slowness * learning}


def embed(task: Task, machine: Machine) -> Terms:
    """Start + maps x embedding / threads."""
    embedding = network(task.load.network).embedding_seconds(task.load.num_maps) / task.threads
    return {"start": machine.slowness * _EMBEDDING_START, "maps": machine.network_slowness * embedding}


def cluster(task: Task, machine: Machine) -> Terms:
    """Start + points + pairs up to 4096 points; above, start + search for neighbours + points; + points placed."""
    num = task.load.num_maps
    few = _POINT * num + _PAIR * num**2
    many = _NEIGHBOURS_START + _POINT_OF_MANY * num
    points = few if num < _MOST_PAIRED else many
    terms = {"start": _CLUSTERING_START, "points": points, "placed": _PLACED * task.load.num_placed}
    return _times(machine.slowness, terms)


def report(task: Task, machine: Machine) -> Terms:
    """Start + thumbnails + entries of the maps at full size."""
    shown = {"maps": _SHOWN_MAP * task.load.num_maps, "entries": _SHOWN_ENTRY * task.load.num_entries}
    return _times(machine.slowness, {"start": _REPORT_START, **shown})


FORMULAS: Mapping[str, Callable[[Task, Machine], Terms]] = {
    "simulate": simulate,
    "ingest": ingest,
    "correlate": correlate,
    "maps": maps,
    "train": train,
    "embed": embed,
    "cluster": cluster,
    "report": report,
}
"""What a task of each stage takes, with its threads."""


class Price(NamedTuple):
    """What one way of keeping the counts costs; estimated from the sizes of the files."""

    way: str
    written: int
    """Bytes in the archive."""
    seconds: float
    """Time of one thread, once."""
    read: int
    """Bytes for every correlation of all scans."""
    reading: float
    """s of one thread, for every correlation of all scans."""


def prices(scans: Iterable[Scan], machine: Machine | None = None) -> tuple[Price, Price]:
    """What keeping the counts of these scans costs: copied into the archive, and left in place."""
    known = machine or load_machine()
    written, once, stored, reading, in_place = 0.0, 0.0, 0, 0.0, 0.0
    for scan in scans:
        if scan.content is not Content.FRAMES:
            continue
        load = counts_load(scan, "auto")
        copied, left = (Task(scan.scan_id, "", 0, 0, 0, load=one) for one in (load, replace(load, form="none")))
        share = _KEPT_OF_EVENTS if is_sparse(load.density) else _KEPT_OF_FRAMES
        written, stored = written + share * scan.stored_bytes, stored + scan.stored_bytes
        once, reading = once + task_seconds("ingest", copied, known), reading + _reading(copied, known)
        in_place += _reading(left, known)
    way = Price("copied (ingest.form: auto)", int(written), once, int(written), reading)
    return way, Price("in place (ingest.form: none)", 0, 0.0, stored, in_place)


def counts_load(scan: Scan, form: str) -> Load:
    """The load of reading all counts of a scan once."""
    area = scan.height * scan.width
    return Load(scan.num_frames, area, scan.num_frames * area, form, density=estimate_density(scan))
