"""The loop: look, take up what is finished, say what it is."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.run_record import RunRecord
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import console, live_line, time_text
from ainerd_hpc.errors import ConfigError, ProductError
from ainerd_hpc.executors import Workers
from ainerd_hpc.planning import without
from ainerd_hpc.sources.shared_products import publish_shared
from ainerd_hpc.sources.walk import looking
from ainerd_hpc.types import Scan
from ainerd_hpc.watching.finished import Source, version
from ainerd_hpc.watching.known import Known, Placed
from ainerd_hpc.watching.page import Page
from ainerd_hpc.watching.taking import Taken, Taking
from ainerd_hpc.watching.told import Command, Line, Told
from ainerd_hpc.watching.verdict import Kind

RETRY = 60.0
"""Seconds until a scan is tried again that failed by no fault of its own, and after which a fault is told."""
_PER_WORKER = 2
"""Scans that are taken up together, for each worker."""
_STYLES = {Kind.NEW: "bold red", Kind.RARE: "bold yellow", Kind.CHANGE: "bold blue", Kind.KNOWN: ""}


@dataclass(frozen=True)
class Options:
    """How it is watched."""

    every: float = 1.0
    """Seconds from look to look, at least; as long as a look takes in large folders."""
    on_new: Sequence[str] = ()
    """Words of the command for unusual scans."""
    until_idle: float = math.inf
    """Seconds without anything new after which the watch ends."""


def watch(config: RunConfig, options: Options) -> None:
    """Take scans up as they appear, until it is ended, or nothing comes any more.

    Raises
    ------
    ConfigError
        The archive has no clusters, or a source folder does not exist.
    ArchiveError
        Another run is at work on the archive.
    """
    archive, record = Archive(config.archive), RunRecord(config, [])
    known = Known(config)
    with archive.locked() as lock, record.kept(), looking(), Workers(config.executor, record.folder) as workers:
        archive.sweep()
        loop = _Loop(config, options, known, Taking(config, workers, record.run_id))
        with live_line() as show:
            while not loop.is_idle():
                lock.check()
                began = time.monotonic()
                if not loop.round():
                    time.sleep(max(options.every, time.monotonic() - began))
                show(loop.state())
                loop.publish()
        record.write("done")


class _Loop:
    def __init__(self, config: RunConfig, options: Options, known: Known, taking: Taking) -> None:
        self._config, self._archive = config, Archive(config.archive)
        self._options, self._known, self._taking = options, known, taking
        self._source, self._folders = Source(config), ", ".join(map(str, config.source.roots))
        self._told, self._command = Told(self._archive.root / "watch.jsonl"), Command(options.on_new)
        places = read_table(self._archive.clusters_path(config.model.name), ["x", "y", "label"])
        self._page = Page(self._archive, places)
        self._batch = _PER_WORKER * config.executor.num_workers
        self._faults, self._told_faults, self._retry = dict[str, str](), dict[str, float](), dict[str, float]()
        self._began = self._last = time.monotonic()
        self._num_taken, self._published, self._trouble = 0, (-1, 0), ""
        self._settled = self._done_before()

    def _done_before(self) -> dict[str, str]:
        """Scans that were told, or that the last run has placed, by what they were; they are known."""
        scans = without(self._source.found.scans, self._source.found.problems)
        placed = set(self._known.table["scan_id"]) - self._taking.left(self._source.found, scans)
        told = {one.scan_id for one in scans if self._told.lines.get(one.scan_id, {}).get("version") == version(one)}
        for scan_id in sorted((told - placed) | set(list(placed)[:1])):  # one at least, which loads the model
            try:
                self._known.place(scan_id)
            except ProductError:  # it is gone: the scan is taken up again
                told.discard(scan_id)
                placed.discard(scan_id)
        settled = {scan.scan_id: version(scan) for scan in scans if scan.scan_id in told | placed}
        console.print(
            f"watching {self._folders}: {len(settled)} of {len(scans)} scans are known; {self._page.path}", markup=False
        )
        return settled

    def waiting(self) -> list[Scan]:
        """Scans that are there, and that nothing was said of."""
        found = self._source.found
        return [one for one in without(found.scans, found.problems) if self._settled.get(one.scan_id) != version(one)]

    def round(self) -> int:
        """Look once, and take up a few scans that are finished; how many these were."""
        self._look()
        now = time.monotonic()
        due = [scan for scan in self.waiting() if self._retry.get(scan.scan_id, now) <= now]
        ready = list(islice(self._source.finished(due), self._batch))
        if ready:
            publish_shared(self._config, self._source.found)
            for taken in self._taking.take(self._source.found, ready):
                self._settle(taken)
        self._command.look()
        return len(ready)

    def _look(self) -> None:
        """Look at the source; a folder that is gone may come back."""
        try:
            if self._source.look():
                self._last = time.monotonic()
            self._trouble = ""
        except (ConfigError, OSError) as error:
            if not self._trouble:
                console.print(f"{error}; looking again", style="yellow", markup=False)
            self._trouble = str(error)
        self._tell_faults()

    def _tell_faults(self) -> None:
        """A line for each scan that has been unfinished or faulty for a while, once."""
        faults, now = self._source.faults(), time.monotonic()
        self._told_faults = {name: self._told_faults.get(name, now + RETRY) for name in faults}
        for name, due in self._told_faults.items():
            if due <= now:
                self._told_faults[name] = math.inf
                console.print(f"{name} waits: {faults[name].reason}", style="yellow", markup=False)

    def _settle(self, taken: Taken) -> None:
        """Say what a scan is, or why it is not taken up."""
        scan, self._last = taken.scan, time.monotonic()
        began = time.perf_counter()
        try:
            placed = self._known.place(scan.scan_id) if not taken.reason else None
        except ProductError as error:
            taken.reason, taken.is_final, placed = str(error), False, None
        if placed is None:
            self._set_aside(taken)
            return
        taken.seconds["label"] = time.perf_counter() - began
        line = _line(scan, placed, taken.seconds, time.time() - self._source.last_write(scan))
        self._told.tell(line)
        self._settled[scan.scan_id] = version(scan)
        self._faults.pop(scan.scan_id, None)
        self._num_taken += 1
        console.print(_words(line, placed), style=_STYLES[placed.verdict.kind], markup=False)
        if placed.verdict.kind is not Kind.KNOWN:
            self._command.run(line)

    def _set_aside(self, taken: Taken) -> None:
        scan_id = taken.scan.scan_id
        if self._faults.get(scan_id) != taken.reason:
            console.print(f"{scan_id} is not taken up: {taken.reason}", style="yellow", markup=False)
        self._faults[scan_id] = taken.reason
        if taken.is_final:
            self._settled[scan_id] = version(taken.scan)
        else:
            self._retry[scan_id] = time.monotonic() + RETRY

    def state(self) -> str:
        """How far the watch is, and by how much it lags."""
        waiting, faults = self.waiting(), self._all_faults()
        hours = max(time.monotonic() - self._began, 1.0) / 3600
        said = f"{self._num_taken} scans taken up ({self._num_taken / hours:.0f} an hour), {len(waiting)} waiting"
        if waiting:
            oldest = min(map(self._source.last_write, waiting))
            said += f", the oldest for {time_text(max(0.0, time.time() - oldest))}"
        return said + (f"; {len(faults)} unfinished or faulty" if faults else "") + (self._trouble and "; no source")

    def _all_faults(self) -> dict[str, str]:
        return self._faults | {name: problem.reason for name, problem in self._source.faults().items()}

    def publish(self) -> None:
        """Write the page, where there is something new, or every time that it is loaded."""
        now = self._num_taken, int(time.monotonic() // 5)
        if now != self._published:
            self._published = now
            self._page.write(self.state(), list(self._told.lines.values()), self._all_faults())

    def is_idle(self) -> bool:
        """Whether nothing has come for as long as it is to be waited."""
        return not self.waiting() and time.monotonic() - self._last >= self._options.until_idle


def _line(scan: Scan, placed: Placed, seconds: dict[str, float], total: float) -> Line:
    """What is said of a scan, as `watch.jsonl` has it; None stands for what is not known."""
    maps, found = placed.maps, placed.verdict
    waited = max(0.0, total - sum(seconds.values()))
    place = maps.loc[maps["label"] == found.label, ["x", "y"]].median()
    return {
        "time": time.time(),
        "scan_id": scan.scan_id,
        "source": scan.source,
        "version": version(scan),
        "verdict": found.kind.value,
        "label": found.label,
        "kind": placed.words,
        "share": found.share,
        "novelty": _known(found.novelty),
        "change": found.change,
        "maps": len(maps),
        "shown": int(maps["novelty"].fillna(-1).argmax()),
        "place": [_known(value) for value in place],
        "nearest": placed.nearest,
        "seconds": {"waited": waited, **seconds, "total": total},
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _words(line: Line, placed: Placed) -> str:
    """One line for a person."""
    near = ", ".join(f"{name} ({distance:.3g})" for name, distance in placed.nearest.items()) or "none"
    cluster = f"cluster {line['label']}" if line["label"] >= 0 else "in no cluster"
    head = f"{line['scan_id']}: {line['verdict'].upper() if line['verdict'] != Kind.KNOWN else 'known'}, {cluster}"
    novelty = "unknown" if line["novelty"] is None else f"{line['novelty']:.2f}"
    after = time_text(line["seconds"]["total"])
    return f"{head}, {line['kind']}, novelty {novelty}; nearest {near}; {after} after its last byte"
