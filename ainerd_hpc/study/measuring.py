"""Strong and weak scaling: the line, or a part of it, run again and again with other numbers of workers.

Strong: all scans, whatever the number of workers. Weak: as many more scans as there are workers. Repeats are
interleaved. Each run begins with an archive of its own that is removed afterwards; what its journal tells becomes a
line of `scale.jsonl` a stage.
"""

from __future__ import annotations

import json
import platform
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from ainerd_hpc.archive.journal import tasks_done
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import console, tell, time_text
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.pipeline import Run
from ainerd_hpc.planning import plan, survey
from ainerd_hpc.scaling.cost_model import FORMULAS
from ainerd_hpc.scaling.fitting import Fitted, load_fitted
from ainerd_hpc.site.allocation import cores_here
from ainerd_hpc.site.calibration import load_machine
from ainerd_hpc.types import Plan, Scan, Shape, StageReport
from ainerd_hpc.versions import versions

Kind = Literal["strong", "weak"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One stage of one run."""

    kind: Kind
    stage: str
    workers: int
    repeat: int
    num_tasks: int
    seconds: float
    """Time from the first task that was handed out to the end of the last."""
    outside: float
    """Seconds of the stage before and after its tasks: starting workers, gathering."""
    cpu_seconds: float
    waiting: float
    """Seconds of workers within tasks in which they did not compute: waiting for files, or for a busy processor."""
    between: float
    """Seconds of workers between two tasks: scheduler, journal."""
    idle: float
    """Seconds of workers before their first task and after their last."""
    work: Mapping[str, float]
    """Term of the cost model -> its share of the CPU seconds, s."""
    bytes_read: int
    bytes_written: int
    planned_read: int
    planned_write: int
    peak_bytes: int
    """Most memory of a process."""
    planned_peak: int
    others: float
    """Cores of this machine that other work had during the run, on average."""


def measure(
    config: RunConfig, workers: Sequence[int], repeats: int, until: str, folder: Path, kinds: Sequence[Kind]
) -> list[Measured]:
    """Run, and keep a line for each stage of each run, behind one that says all that is needed to repeat it.

    Parameters
    ----------
    config : RunConfig
        Its archive is not touched.
    workers : sequence of int
        Numbers of workers.
    repeats : int
    until : str
        Last stage; stages of one task are not told.
    folder : Path
        For the archives, while they are needed, and the lines.
    kinds : sequence
        `strong`, `weak`.

    Raises
    ------
    ConfigError
        There are fewer scans than workers, or no workers.
    """
    if config.executor.kind == "inline" and max(workers) > 1:
        raise ConfigError("scale: expected workers, found executor.kind: inline; give --executor local")
    config = _with_scans(config, folder)
    scans = sorted(survey(config).scans, key=lambda scan: scan.scan_id)
    if len(scans) < max(workers):
        raise ConfigError(f"scale: expected {max(workers)} scans or more, found {len(scans)}; give fewer --workers")
    path, fitted, found = folder / "scale.jsonl", load_fitted(config.executor.site), list[Measured]()
    _append(path, _circumstances(config, workers, repeats, until, len(scans)))
    for repeat in range(repeats):
        for kind, number in _order(kinds, workers, repeat):
            chosen = scans if kind == "strong" else scans[: len(scans) // max(workers) * number]
            one = _config_for(config, chosen, number, folder / f"{kind}-{number}-{repeat}")
            began = time.perf_counter()
            for line in _run(one, until, (kind, number, repeat), fitted):
                _append(path, asdict(line))
                found.append(line)
            tell(f"{kind}, {number} workers, repeat {repeat + 1}: {time_text(time.perf_counter() - began)}")
    return found


def _order(kinds: Sequence[Kind], workers: Sequence[int], repeat: int) -> list[tuple[Kind, int]]:
    """The runs of a repeat; every other one backwards, so that what drifts meets all of them."""
    pairs = [(kind, number) for kind in kinds for number in workers]
    return pairs[::-1] if repeat % 2 else pairs


def _with_scans(config: RunConfig, folder: Path) -> RunConfig:
    """The config with its scans, which are simulated first where it asks for that."""
    if config.simulate is None:
        return config
    source = config.source.model_copy(update={"path": folder / "raw"})
    simulating = config.model_copy(update={"source": source, "archive": folder / "simulated"})
    Run(simulating, until="simulate").execute()
    return simulating.model_copy(update={"simulate": None})


def _config_for(config: RunConfig, scans: Sequence[Scan], workers: int, archive: Path) -> RunConfig:
    """The config of one run: the scans up to the last of these, so many workers, an archive of its own."""
    last = f"scan_id <= {json.dumps(scans[-1].scan_id)}"
    select = f"({config.source.select}) and {last}" if config.source.select else last
    source = config.source.model_copy(update={"select": select})
    executor = config.executor.model_copy(update={"workers": workers})
    return config.model_copy(update={"source": source, "executor": executor, "archive": archive})


def _run(config: RunConfig, until: str, name: tuple[Kind, int, int], fitted: Fitted) -> Iterator[Measured]:
    """Run the line into an archive that is removed afterwards, and tell what its stages took."""
    shutil.rmtree(config.archive, ignore_errors=True)
    meters, quiet = _meters(), console.quiet
    plans = [planned for planned in plan(config, until=until) if planned.shape is Shape.ARRAY]
    console.quiet = True
    try:
        reports = {report.stage: report for report in Run(config, until=until).execute()}
    finally:
        console.quiet = quiet
    others = _others(meters)
    processes = list(tasks_done(config.archive))
    for planned in plans:
        yield _measured(planned, reports[planned.stage], processes, name, fitted, others)
    shutil.rmtree(config.archive)


def _measured(
    planned: Plan,
    report: StageReport,
    processes: Sequence[Sequence[Mapping[str, Any]]],
    name: tuple[Kind, int, int],
    fitted: Fitted,
    others: float,
) -> Measured:
    """One stage, from what its processes noted."""
    kind, workers, repeat = name
    own = [[entry for entry in entries if entry["stage"] == planned.stage] for entries in processes]
    own = [entries for entries in own if entries]
    entries = [entry for one in own for entry in one]
    busy, cpu_seconds = (sum(map(value, entries)) for value in (_duration, lambda entry: entry["cpu_seconds"]))
    seconds = max(entry["ended"] for entry in entries) - min(entry["queued"] for entry in entries)
    spans = sum(one[-1]["ended"] - one[0]["began"] for one in own)
    return Measured(
        kind=kind,
        stage=planned.stage,
        workers=workers,
        repeat=repeat,
        num_tasks=len(entries),
        seconds=seconds,
        outside=report.seconds - seconds,
        cpu_seconds=cpu_seconds,
        waiting=max(0.0, busy * planned.tasks[0].threads - cpu_seconds),
        between=spans - busy,
        idle=max(0.0, workers * seconds - spans),
        work=_work(planned, cpu_seconds, fitted),
        bytes_read=sum(entry["bytes_read"] for entry in entries),
        bytes_written=sum(entry["bytes_written"] for entry in entries),
        planned_read=planned.read_bytes,
        planned_write=planned.write_bytes,
        peak_bytes=max(entry["peak_bytes"] for entry in entries),
        planned_peak=planned.peak_bytes,
        others=others,
    )


def _meters() -> tuple[float, float, float]:
    """The clock, the CPU seconds of this machine, and ours among them, with those of processes that have ended."""
    used, children = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() + children.ru_utime + children.ru_stime
    return time.perf_counter(), used.user + used.system + getattr(used, "nice", 0.0), own


def _others(before: tuple[float, float, float]) -> float:
    """Cores that other work had since."""
    seconds, used, own = (now - then for now, then in zip(_meters(), before, strict=True))
    return max(0.0, used - own) / seconds


def _duration(entry: Mapping[str, Any]) -> float:
    return float(entry["ended"] - entry["began"])


def _work(planned: Plan, cpu_seconds: float, fitted: Fitted) -> dict[str, float]:
    """The CPU seconds of a stage, divided as the cost model says: meters of a process do not tell what it computes."""
    fit, terms, machine = fitted.get(planned.stage), Counter[str](), load_machine()
    for task in planned.tasks if planned.stage in FORMULAS else ():
        for name, value in FORMULAS[planned.stage](replace(task, threads=1), machine).items():
            terms[name] += value * (fit.factors.get(name, 1.0) if fit else 1.0)  # type: ignore[assignment]
    return {name: cpu_seconds * value / terms.total() for name, value in terms.items()}


def _circumstances(
    config: RunConfig, workers: Sequence[int], repeats: int, until: str, num_scans: int
) -> dict[str, Any]:
    """All that is needed to measure again."""
    return {
        "began": time.time(),
        "command": sys.argv,
        "host": platform.node(),
        "processor": platform.processor() or platform.machine(),
        "cores": cores_here(),
        "versions": versions(),
        "config": config.model_dump(mode="json"),
        "num_scans": num_scans,
        "workers": list(workers),
        "repeats": repeats,
        "until": until,
    }


def _append(path: Path, line: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
