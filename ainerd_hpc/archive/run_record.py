"""Who ran what, where and when, with which versions and config, and what came of it: `runs/<run_id>.json`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ainerd_hpc.archive.journal import entries_of, start
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.config import RunConfig
from ainerd_hpc.digests import digest
from ainerd_hpc.loading import absolute, to_yaml
from ainerd_hpc.publishing import write_json, write_text
from ainerd_hpc.site.allocation import find_allocation, in_step
from ainerd_hpc.types import StageReport
from ainerd_hpc.versions import versions

_EXIT_CODES: Mapping[str, int | None] = {"running": None, "done": 0, "failed": 1, "quarantined": 3, "interrupted": 130}
"""Exit codes of the process, by the state of its run; an error may have another one."""
_SUMS = ("bytes_read", "bytes_written", "cpu_seconds")
"""What the journal tells of each task, and the record of each stage and of the run."""
_RECORDS_READ = 100
"""A stage in many shares leaves a record of each."""


class RunRecord:
    """The record of a run of this process.

    Parameters
    ----------
    config : RunConfig
    reports : sequence of StageReport
        Of the stages that are finished; grows.

    Attributes
    ----------
    run_id : str
    folder : Path
        For what else the run leaves while it is at work.
    """

    def __init__(self, config: RunConfig, reports: Sequence[StageReport]) -> None:
        self._config, self._reports = config, reports
        self._started, self._since = datetime.now(UTC), 0.0
        self.run_id = f"{self._started:%Y%m%dT%H%M%S}-{socket.gethostname()}-{os.getpid()}"
        self.folder = config.archive / "runs" / self.run_id

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Write it when the block begins, beside the config, and when an error or a signal ends the block."""
        if not in_step():
            keep_config(self._config)
        start(self._config.archive, self.run_id, "client", self._config.executor.threads)
        self._since = self.write("running").stat().st_mtime
        try:
            yield
        except BaseException as error:
            told = {"error": f"{type(error).__name__}: {error}"}
            with contextlib.suppress(OSError):  # the disk may be full: what it was about is told
                if isinstance(error, Exception):
                    self.write("failed", exit_code=getattr(error, "exit_code", _EXIT_CODES["failed"]), **told)
                else:
                    self.write("interrupted", **told)
            raise

    def write(self, state: str, **more: object) -> Path:
        """Publish it as it stands now: running, done, quarantined, failed or interrupted."""
        path = self.folder.with_name(f"{self.run_id}.json")
        facts = {
            "run_id": self.run_id,
            "state": state,
            "exit_code": _EXIT_CODES[state],
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self._started).total_seconds(), 1),
            "user": os.environ.get("USER") or str(os.getuid()),
            "command": sys.argv,
            "versions": versions(),
            "config": self._config.model_dump(mode="json"),
            "config_digest": digest(self._config),
            "stages": [asdict(report) for report in self._reports],
            **_where_and_what(entries_of(self._config.archive, self.run_id, self._since)),
        }
        write_json(path, {**facts, **more})
        return path


def keep_config(config: RunConfig) -> None:
    """Leave the config with its archive: all of its values, its paths absolute."""
    whole = RunConfig.model_validate(absolute(config.model_dump()))
    write_text(Archive(config.archive).config_path, to_yaml(whole.model_dump(mode="json")))


def _where_and_what(entries: Iterable[Mapping[str, Any]]) -> dict[str, object]:
    """The places of all processes of a run, and what became of the tasks of each stage."""
    found, tally = find_allocation(), _Tally()
    for entry in entries:
        tally.add(entry)
    return {
        "host": socket.gethostname(),
        "system": found.system if found else "",
        "jobs": sorted(tally.jobs | ({found.job} if found else set())),
        "nodes": sorted(tally.nodes | {socket.gethostname(), *(found.nodes if found else ())}),
        "processes": tally.processes,
        "tasks": {stage: dict(numbers) for stage, numbers in tally.tasks.items()},
        **{name: sum(numbers[name] for numbers in tally.tasks.values()) for name in _SUMS},
    }


class _Tally:
    """What the journals of a run say in all; one pass, since they may be long."""

    def __init__(self) -> None:
        self.processes, self.nodes, self.jobs = 0, set[str](), set[str]()
        self.tasks = defaultdict[str, Counter[str]](Counter)
        self._seen = set[int]()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count one line; a task that is done (or failed) again counts once, and as retried."""
        if entry["event"] == "started":
            self.processes += 1
            self.nodes.add(entry["host"])
            self.jobs |= {entry["job"]} if "job" in entry else set()
        if "stage" not in entry:
            return
        numbers, event = self.tasks[entry["stage"]], entry["event"]
        name = hash((entry["stage"], event, entry["key"]))
        numbers.update({name: entry.get(name, 0) for name in _SUMS})
        numbers["retried"] += event == "begun" and name in self._seen
        numbers[event] += name not in self._seen
        self._seen.add(name)


def last_reports(archive: Archive) -> list[StageReport]:
    """What each stage did when it last made something, as far as the newest records tell."""
    reports: dict[str, StageReport] = {}
    for record in _records(archive, _RECORDS_READ):
        for entry in record["stages"]:
            if entry["num_done"]:
                reports[entry["stage"]] = StageReport(**entry)
    return list(reports.values())


def used_since(archive: Archive, since: float) -> Mapping[str, Mapping[str, float]]:
    """What the tasks of each stage used in all runs that began since, by the clock of the file system.

    Returns
    -------
    Mapping
        stage -> done (tasks), seconds (from the plan to the end; of shares, which run at a time, the longest),
        cpu_seconds, bytes_read, bytes_written; 0 where there was nothing.
    """
    found = defaultdict[str, Counter[str]](Counter)
    for record in _records(archive, 0):
        if datetime.fromisoformat(record["started"]).timestamp() < since - 1:  # it is in whole seconds
            continue
        for stage, numbers in record["tasks"].items():
            found[stage].update({name: numbers.get(name, 0) for name in ("done", *_SUMS)})
        for report in record["stages"]:
            used = found[report["stage"]]
            used["seconds"] = max(used["seconds"], report["seconds"])
    return found


def _records(archive: Archive, num: int) -> list[dict[str, Any]]:
    """The newest records (0: all), oldest first, without those that are damaged."""
    found = []
    for path in sorted((archive.root / "runs").glob("*.json"))[-num:]:
        with contextlib.suppress(ValueError):
            found.append(json.loads(path.read_bytes()))
    return found


def last_run(archive: Archive) -> str:
    """One line about the newest run."""
    records = _records(archive, 1)
    if not records:
        return "none"
    (data,) = records
    killed = data["state"] == "running" and not archive.is_locked()
    where = f", job {', '.join(data['jobs'])}" if data.get("jobs") else ""
    return f"{data['run_id']}: {'killed' if killed else data['state']}, started {data['started']}{where}"
