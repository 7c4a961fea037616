"""Which runs made what, as the journals and the records of runs tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ainerd_hpc.archive.json_lines import json_lines
from ainerd_hpc.errors import reading_product


@dataclass(frozen=True, slots=True)
class Making:
    """A run that did tasks of a stage."""

    run_id: str
    ended: float
    """When it did the last of them, s UTC epoch."""
    host: str
    versions: Mapping[str, str]
    record: Mapping[str, Any]
    """What the run left of itself; empty where its record is gone."""

    @property
    def user(self) -> str:
        """Who ran it."""
        return str(self.record.get("user", "unknown"))

    @property
    def command(self) -> str:
        """The command line, the program by its name alone."""
        program, *words = self.record.get("command") or [""]
        return " ".join(["ainerd-hpc", *words] if program else [])

    @property
    def started(self) -> str:
        """When the run began, as an ISO date; when it did the last task where its record is gone."""
        return str(self.record.get("started") or datetime.fromtimestamp(self.ended, UTC).isoformat(timespec="seconds"))


def makings(root: Path, stages: Mapping[str, str], scan_id: str | None) -> dict[str, list[Making]]:
    """The runs that made the products of some stages, by stage, the newest last.

    Parameters
    ----------
    stages : dict of str to str
        Stage -> the digest that its product records; empty where there are several.
    scan_id : str or None
        Tasks of this scan alone.
    """
    newest: dict[tuple[str, str], tuple[float, Mapping[str, Any]]] = {}
    for path in sorted((root / "journal").glob("*.jsonl")):
        started: Mapping[str, Any] = {}
        for entry in json_lines(path):
            if entry.get("event") == "started":
                started = entry
            elif entry.get("event") == "done" and _is_meant(entry, stages, scan_id):
                name, ended = (str(entry["stage"]), str(started.get("run", ""))), float(entry.get("time", 0.0))
                newest[name] = max(newest.get(name, (0.0, started)), (ended, started), key=lambda one: one[0])
    found: dict[str, list[Making]] = {stage: [] for stage in stages}
    for (stage, run_id), (ended, started) in sorted(newest.items(), key=lambda item: item[1][0]):
        versions = started.get("versions", {})
        found[stage].append(Making(run_id, ended, str(started.get("host", "")), versions, _record(root, run_id)))
    return found


def _is_meant(entry: Mapping[str, Any], stages: Mapping[str, str], scan_id: str | None) -> bool:
    """Whether a task is one of these stages and of this scan; where a digest is known, the one that gave it."""
    if (stage := str(entry.get("stage"))) not in stages:
        return False
    is_of_scan = scan_id is None or str(entry.get("key")).partition("/")[0] == scan_id
    return is_of_scan and (not stages[stage] or entry.get("digest") == stages[stage])


def _record(root: Path, run_id: str) -> Mapping[str, Any]:
    path = root / "runs" / f"{run_id}.json"
    if not run_id or not path.exists():
        return {}
    with reading_product(path, "cannot read what the run left of itself: {}"):
        found: Mapping[str, Any] = json.loads(path.read_bytes())
    return found
