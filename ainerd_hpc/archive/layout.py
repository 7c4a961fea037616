"""The places of all products of an archive, and the digests that they record."""

from __future__ import annotations

import contextlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from ainerd_hpc.archive.lock import Lock, is_locked, locked
from ainerd_hpc.errors import ProductError
from ainerd_hpc.types import Content, Scan

CATALOG_COLUMNS = [field.name for field in fields(Scan)]
"""Columns of the catalog before those of the sample log."""


class Archive:
    """Paths of the products below one root folder, and the catalog."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def catalog_path(self) -> Path:
        return self.root / "catalog.parquet"

    @property
    def config_path(self) -> Path:
        """The config of the last run or submission."""
        return self.root / "runs" / "config.yaml"

    @property
    def estimate_path(self) -> Path:
        """What the rest was estimated to cost, when that was asked for last."""
        return self.root / "journal" / "estimate.json"

    @property
    def records_path(self) -> Path:
        return self.root / "journal" / "files.parquet"

    @property
    def scan_ids_path(self) -> Path:
        return self.root / "journal" / "scan_ids.parquet"

    @property
    def sample_log_path(self) -> Path:
        return self.root / "sample_log.parquet"

    @property
    def map_index_path(self) -> Path:
        return self.root / "maps" / "index.parquet"

    @property
    def report_path(self) -> Path:
        return self.root / "report" / "index.html"

    def relations_path(self, name: str) -> Path:
        """What goes with what: the table of relations, events or transitions."""
        return self.root / "report" / f"{name}.parquet"

    def frames_path(self, scan_id: str) -> Path:
        return self.root / "frames" / f"{scan_id}.zarr.zip"

    def partition_path(self, digest: str) -> Path:
        return self.root / "partitions" / f"{digest}.zarr.zip"

    def correlation_path(self, scan_id: str) -> Path:
        return self.root / "correlation" / f"{scan_id}.zarr.zip"

    def correlation_part_path(self, scan_id: str, part: str) -> Path:
        return self.root / "correlation" / f"{scan_id}.parts" / f"{part}.zarr.zip"

    def maps_path(self, scan_id: str) -> Path:
        return self.root / "maps" / f"{scan_id}.zarr.zip"

    def model_folder(self, name: str) -> Path:
        return self.root / "models" / name

    def checkpoints_folder(self, name: str) -> Path:
        """Working state of a training; gone when the model is published."""
        return self.model_folder(name) / "checkpoints"

    def weights_path(self, name: str) -> Path:
        return self.model_folder(name) / "weights.safetensors"

    def embedding_path(self, name: str) -> Path:
        return self.root / "embedding" / f"{name}.parquet"

    def embedding_part_path(self, name: str, part: str) -> Path:
        return self.root / "embedding" / f"{name}.parts" / f"{part}.parquet"

    def clusters_path(self, name: str) -> Path:
        return self.root / "clusters" / f"{name}.parquet"

    def cluster_summary_path(self, name: str) -> Path:
        """A row for each cluster."""
        return self.root / "clusters" / f"{name}.summary.parquet"

    def cluster_fit_path(self, name: str) -> Path:
        """What it takes to tell which cluster other maps are of."""
        return self.root / "clusters" / f"{name}.fit.parquet"

    def read_catalog(self) -> list[Scan]:
        """All scans, ordered by scan_id; empty before the first ingest.

        Raises
        ------
        ProductError
            The catalog is damaged, or it is another table.
        """
        if not self.catalog_path.exists():
            return []
        from ainerd_hpc.archive.tables import read_table

        table = read_table(self.catalog_path)
        rows = table[[name for name in CATALOG_COLUMNS if name in table]].to_dict("records")
        try:
            return [Scan(**{**row, "content": Content(row["content"])}) for row in rows]  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError):
            raise ProductError(self.catalog_path, f"expected a catalog, found a table of {list(table)[:3]}") from None

    @contextlib.contextmanager
    def locked(self, shared: bool = False) -> Iterator[Lock]:
        """Keep a second run off this archive; `shared`: runs only, not those that do other tasks of the same stage.

        Raises
        ------
        ArchiveError
            Another run is at work.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.root / ".lock", shared) as lock:
            yield lock

    def is_locked(self) -> bool:
        """Whether a run, or a share of a stage, is at work on this archive now."""
        return is_locked(self.root / ".lock")

    def sweep(self) -> None:
        """Remove the temporary files that killed processes left behind; only for a run that holds the lock.

        A worker that outlived its killed client loses its file here, and cannot publish it: nothing is harmed.
        """
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.startswith(".") and name.endswith(".tmp") and "@" in name:
                    Path(folder, name).unlink(missing_ok=True)


def with_digest(page: str, digest: str) -> str:
    """A page of HTML that records its digest, for `recorded_digest`."""
    before, end, after = page.rpartition("</html>")
    return f"{before}<!-- digest {digest} -->{end}{after}"


def recorded_digest(path: Path) -> str:
    """The digest that a product file records; empty when it has none or cannot be read."""
    if path.suffix == ".parquet":
        from ainerd_hpc.archive.tables import table_digest

        return table_digest(path)
    try:
        if path.suffix == ".html":
            found = re.search(r"<!-- digest (\w+) --></html>\s*$", path.read_text(encoding="utf-8"))
            return found[1] if found else ""
        if path.suffix == ".json":
            return str(json.loads(path.read_text(encoding="utf-8")).get("digest", ""))
        with zipfile.ZipFile(path) as file:
            return str(json.loads(file.read("zarr.json"))["attributes"].get("digest", ""))
    except Exception:  # what is damaged can say anything
        return ""
