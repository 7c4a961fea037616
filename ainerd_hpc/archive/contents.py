"""What lies in an archive: which files are products, and which task of which stage each of them comes from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

STAGES = {
    "catalog.parquet": "ingest",
    "sample_log.parquet": "ingest",
    "journal": "ingest",
    "partitions": "ingest",
    "frames": "ingest",
    "correlation": "correlate",
    "maps": "maps",
    "models": "train",
    "embedding": "embed",
    "clusters": "cluster",
    "report": "report",
}
"""First part of the path of a product -> the stage that publishes it, or before which it is published."""
OF_SCANS = ("frames", "correlation", "maps")
"""Folders that hold a product of each scan."""
_SUFFIXES = (".zarr.zip", ".parquet", ".json", ".safetensors", ".html")


def products(root: Path) -> Iterator[Path]:
    """All products, in the order of the stages; whatever else people keep there is none."""
    yield from (path for path in (*root.glob("*.parquet"), root / "journal" / "files.parquet") if path.is_file())
    for name in STAGES:
        if name != "journal":
            for folder, folders, files in os.walk(root / name):
                folders[:] = sorted(set(folders) - {"checkpoints"})
                yield from (Path(folder, file) for file in sorted(files) if is_product(file))


def is_product(name: str) -> bool:
    """Whether a file of this name may be a product; temporary files begin with a dot."""
    return name.endswith(_SUFFIXES) and not name.startswith(".")


def stage_of(root: Path, path: Path) -> str:
    """The stage that publishes a product."""
    return STAGES[path.relative_to(root).parts[0]]


def key_of(root: Path, path: Path) -> str:
    """The key of the task that publishes a product; the scan or the model that it is about."""
    if path.parent.parent == root / "models" or path.parent.suffix == ".parts":
        return path.parent.name.removesuffix(".parts")
    if path.parent == root / "clusters":
        return path.stem.removesuffix(".summary").removesuffix(".fit")
    return path.name.removesuffix(".zarr.zip") if path.suffix == ".zip" else path.stem


def of_other_scans(root: Path, scan_ids: Collection[str]) -> dict[str, list[Path]]:
    """The products, and the folders of parts, of scans other than these, by their scan."""
    found = dict[str, list[Path]]()
    for folder in OF_SCANS:
        for name in os.listdir(root / folder) if (root / folder).is_dir() else ():
            scan_id = name.removesuffix(".zarr.zip").removesuffix(".parts")
            if scan_id != name and not name.startswith(".") and scan_id not in scan_ids:
                found.setdefault(scan_id, []).append(root / folder / name)
    return dict(sorted(found.items()))


def remove(path: Path) -> None:
    """Remove a product, or a folder of parts."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
