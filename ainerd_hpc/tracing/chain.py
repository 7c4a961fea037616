"""The way of a file back to the scans that it was made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ainerd_hpc.archive import contents, layout
from ainerd_hpc.digests import sha256
from ainerd_hpc.errors import ConfigError, reading_product
from ainerd_hpc.stages.registry import STAGES
from ainerd_hpc.tracing.making import Making, makings
from ainerd_hpc.types import Scan

MANIFEST = "figures.json"
"""File beside figures that says what each of them was made of."""
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "ingest": ("source", "ingest"),
    "correlate": ("correlate", "correct"),
    "train": ("model", "train"),
}
"""Sections of the config that a stage goes by, where these are not of its name alone."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one stage had to do with a file."""

    stage: str
    products: tuple[Path, ...]
    makings: tuple[Making, ...]
    """Runs that made them, the newest last."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The sections of the config of the newest run that the stage goes by."""
        config = self.makings[-1].record.get("config", {}) if self.makings else {}
        return {name: config[name] for name in _SECTIONS.get(self.stage, (self.stage,)) if config.get(name)}


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a file comes from."""

    path: Path
    root: Path
    """Folder of the archive."""
    made_of: tuple[Path, ...]
    """Products that a figure was drawn from; the file itself where it is a product."""
    changed: tuple[Path, ...]
    """Those of them that are not any more what a figure was drawn from."""
    scans: tuple[Scan, ...]
    """Scans that it was made of."""
    steps: tuple[Step, ...]
    """Stages that it went through, in their order."""
    model: Mapping[str, Any]
    """What is written about the model; empty where none had to do with it."""


def trace(path: Path) -> Trace:
    """Follow a product, a figure or a page of an archive back to its sources.

    Raises
    ------
    ConfigError
        It is none of these.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: expected a product, a figure or a page of an archive, found no such file")
    path = path.resolve()
    drawn_of = _drawn_of(path)
    made_of = tuple(drawn_of) or (path,)
    root = _root_of(made_of[0])
    stages = [contents.STAGES.get(one.relative_to(root).parts[0], "") for one in made_of]
    if not all(stages) or not all(contents.is_product(one.name) for one in made_of):
        raise ConfigError(f"{path}: expected a product of the archive {root}, found another file; `status` lists them")
    archive = layout.Archive(root)
    scan_id = _scan_of(root, made_of)
    scans = tuple(scan for scan in archive.read_catalog() if scan_id in (None, scan.scan_id))
    steps = tuple(_steps(root, max(stages, key=list(STAGES).index), scan_id))
    changed = tuple(one for one, digest in drawn_of.items() if layout.recorded_digest(one) != digest)
    is_of_model = any(step.stage == "train" for step in steps)
    return Trace(path, root, made_of, changed, scans, steps, _model(steps) if is_of_model else {})


def sources_of(scan: Scan) -> Iterator[tuple[Path, str]]:
    """The files that a scan was read from, and what each of them is."""
    files = {"frames": scan.source, "metadata": scan.metadata_file, "partition": scan.partition_file}
    files |= {"dark": scan.dark.partition(":/")[0], "flat": scan.flat.partition(":/")[0]}
    yield from ((Path(file), role) for role, file in files.items() if file)


def checksum(path: Path) -> str:
    """SHA-256 of a file; empty where it cannot be read any more."""
    return sha256(path) if path.is_file() else ""


def _drawn_of(path: Path) -> Mapping[Path, str]:
    """The products that a figure was drawn from, with the digests that they had; none of what is no figure."""
    manifest = path.parent / MANIFEST
    if not manifest.exists():
        return {}
    with reading_product(manifest, "cannot read what the figures were made of: {}"):
        figures = json.loads(manifest.read_bytes())["figures"]
    return {(path.parent / one).resolve(): digest for one, digest in figures.get(path.name, {}).items()}


def _root_of(path: Path) -> Path:
    for folder in path.parents:
        if (folder / "catalog.parquet").exists():
            return folder
    raise ConfigError(f"{path}: expected a file of an archive, found no catalog.parquet in any folder above it")


def _scan_of(root: Path, products: tuple[Path, ...]) -> str | None:
    """The scan that all of these are about; None where they are about more."""
    is_of_scan = [one.parent.name in contents.OF_SCANS and one.suffix == ".zip" for one in products]
    keys = {contents.key_of(root, one) for one in products}
    return keys.pop() if all(is_of_scan) and len(keys) == 1 else None


def _steps(root: Path, last: str, scan_id: str | None) -> Iterator[Step]:
    """The stages up to the last one, with what they published of a scan, or of all."""
    names = [name for name in STAGES if name in set(contents.STAGES.values())]
    names = names[: names.index(last) + 1]
    products = {name: tuple(some) for name, some in _products(root, names, scan_id).items()}
    is_one = {name: scan_id is not None and len(some) == 1 for name, some in products.items()}
    digests = {name: layout.recorded_digest(some[0]) if is_one[name] else "" for name, some in products.items()}
    runs = makings(root, digests, scan_id)
    for name in names:
        if products[name] or runs[name]:
            yield Step(name, products[name], tuple(runs[name]))


def _products(root: Path, stages: Sequence[str], scan_id: str | None) -> dict[str, list[Path]]:
    """What each of these stages published of a scan, or of all."""
    found: dict[str, list[Path]] = {name: [] for name in stages}
    if scan_id is None:
        every: Iterable[Path] = contents.products(root)
    else:
        paths = (root / folder / f"{scan_id}.zarr.zip" for folder in contents.OF_SCANS)
        every = (path for path in paths if path.exists())
    for path in every:
        if (stage := contents.stage_of(root, path)) in found:
            found[stage].append(path)
    return found


def _model(steps: tuple[Step, ...]) -> Mapping[str, Any]:
    """What is written about the model of the newest run."""
    for step in steps:
        for path in step.products if step.stage == "train" else ():
            if path.name == "model.json":
                with reading_product(path, "cannot read what is written about the model: {}"):
                    return {"name": path.parent.name, **json.loads(path.read_bytes())}
    return {}
