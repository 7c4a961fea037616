"""A trace as RO-Crate metadata: what a data publication says of its files, for people and machines.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) in JSON-LD, with a CreateAction a run and stage, as the profile Process Run
Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5) has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ainerd_hpc.publishing import write_text
from ainerd_hpc.tracing.chain import Step, Trace, checksum, sources_of
from ainerd_hpc.tracing.making import Making

NAME = "ro-crate-metadata.json"
_CRATE, _PROFILE = "https://w3id.org/ro/crate/1.1", "https://w3id.org/ro/wfrun/process/0.5"
_LIBRARY = {"python": "pkg:generic/python"}
"""Package URLs (ECMA-427) of what is no package of Python."""
_MOST_FILES = 1000
"""Files of a stage that are listed each; of more their folder is named."""
_TYPES = {
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".zip": "application/zip",
    ".h5": "application/x-hdf5",
    ".hdf": "application/x-hdf5",
}
Entity = dict[str, Any]


def write_crate(trace: Trace, path: Path, license: str, is_summed: bool = False) -> Path:
    """Publish the metadata of a crate.

    Parameters
    ----------
    trace : Trace
    path : Path
        A file that ends in .json, or the folder of the crate. Files below that folder have their path in it as id, all
        others their place on this machine.
    license : str
        Address of the licence that the data are under.
    is_summed : bool
        Whether SHA-256 of all files are computed, not of the traced one alone.
    """
    file = path if path.suffix == ".json" else path / NAME
    crate = _Crate(trace, file.parent.resolve(), is_summed)
    graph = [*crate.head(file.name, license), *crate.entities.values()]
    context = [f"{_CRATE}/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
    write_text(file, json.dumps({"@context": context, "@graph": graph}, indent=2) + "\n")
    return file


class _Crate:
    """The entities of a crate, by their id."""

    def __init__(self, trace: Trace, root: Path, is_summed: bool) -> None:
        self._trace, self._root, self._is_summed = trace, root, is_summed
        self.entities: dict[str, Entity] = {}
        self._main = self._file(trace.path, "traced file", is_summed=True)
        sources = [self._file(path, role) for scan in trace.scans for path, role in sources_of(scan)]
        before: list[Entity] = list({one["@id"]: one for one in sources}.values())
        self._actions: list[Entity] = []
        for step in trace.steps:
            made = self._products(step)
            self._actions += [self._action(step, making, before, made) for making in step.makings]
            before = made or before
        if trace.path not in trace.made_of:
            self._actions.append(self._drawing(before))

    def head(self, name: str, license: str) -> Iterator[Entity]:
        """The descriptor of the metadata, and the crate itself."""
        yield {
            "@id": name,
            "@type": "CreativeWork",
            "conformsTo": {"@id": _CRATE},
            "about": {"@id": "./"},
        }
        yield {
            "@id": "./",
            "@type": "Dataset",
            "name": f"{self._trace.path.name} of an XPCS archive",
            "description": f"Where {self._trace.path.name} comes from: sources, runs, versions and config.",
            "datePublished": datetime.now(UTC).date().isoformat(),
            "license": {"@id": license},
            "conformsTo": {"@id": _PROFILE},
            "hasPart": [{"@id": key} for key, one in self.entities.items() if one["@type"] in ("File", "Dataset")],
            "mentions": self._actions,
            "mainEntity": self._main,
            "author": _single([{"@id": key} for key, one in self.entities.items() if one["@type"] == "Person"]),
        }
        yield {"@id": license, "@type": "CreativeWork", "name": license, "description": "licence of the data"}
        yield {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}

    def _add(self, key: str, kind: str, **facts: Any) -> Entity:
        self.entities.setdefault(key, {"@id": key, "@type": kind, **facts})
        return {"@id": key}

    def _id(self, path: Path) -> str:
        inside = path.is_relative_to(self._root)
        return quote(str(path.relative_to(self._root))) if inside else path.as_uri()

    def _file(self, path: Path, what: str, is_summed: bool = False) -> Entity:
        facts: Entity = {"name": path.name, "description": what}
        facts["encodingFormat"] = _TYPES.get(path.suffix, "application/octet-stream")
        if path.is_file():
            stat = path.stat()
            facts["contentSize"] = str(stat.st_size)
            facts["dateModified"] = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="seconds")
        if (is_summed or self._is_summed) and (found := checksum(path)):
            facts["sha256"] = found
        return self._add(self._id(path), "File", **facts)

    def _products(self, step: Step) -> list[Entity]:
        if len(step.products) <= _MOST_FILES:
            return [self._file(path, f"product of the stage {step.stage}") for path in step.products]
        folders = sorted({path.parent for path in step.products})
        names = {"description": f"{len(step.products)} products of the stage {step.stage}"}
        return [self._add(f"{self._id(folder)}/", "Dataset", name=folder.name, **names) for folder in folders]

    def _action(self, step: Step, making: Making, before: list[Entity], made: list[Entity]) -> Entity:
        settings = json.dumps(step.settings, sort_keys=True)
        return self._add(
            f"#{step.stage}-{making.run_id}",
            "CreateAction",
            name=f"{step.stage}, run {making.run_id}",
            description=f"{making.command} with {settings}",
            instrument=self._software(making.versions),
            agent=self._add(f"#person-{making.user}", "Person", name=making.user),
            object=_single(before),
            result=_single(made),
            startTime=making.started,
            endTime=datetime.fromtimestamp(making.ended, UTC).isoformat(timespec="seconds"),
        )

    def _drawing(self, before: list[Entity]) -> Entity:
        made_of = [self._file(path, "drawn from") for path in self._trace.made_of] or before
        instrument = next((self.entities[one["@id"]]["instrument"] for one in self._actions[::-1]), None)
        facts = {"instrument": instrument} if instrument else {}
        end = datetime.fromtimestamp(self._trace.path.stat().st_mtime, UTC).isoformat(timespec="seconds")
        words = {"name": "figures", "description": "ainerd-hpc figures", "endTime": end}
        return self._add("#figures", "CreateAction", object=_single(made_of), result=self._main, **facts, **words)

    def _software(self, versions: Mapping[str, str]) -> Entity:
        needed = [self._library(name, number) for name, number in versions.items() if name != "ainerd_hpc"]
        number = versions.get("ainerd_hpc", "unknown")
        facts = {"name": "ainerd_hpc", "softwareVersion": number, "softwareRequirements": needed}
        return self._add(f"#ainerd_hpc-{number}", "SoftwareApplication", **facts)

    def _library(self, name: str, number: str) -> Entity:
        place = f"{_LIBRARY.get(name, f'pkg:pypi/{name}')}@{number.partition('+')[0]}"
        return self._add(place, "SoftwareApplication", name=name, softwareVersion=number)


def _single(values: list[Entity]) -> list[Entity] | Entity:
    """One value for itself, as RO-Crate has it."""
    return values[0] if len(values) == 1 else values
