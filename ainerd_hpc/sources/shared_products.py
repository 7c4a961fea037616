"""What the scans of an archive share: partitions, the sample log, the catalog; and what scans that are gone left."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from ainerd_hpc.archive.contents import of_other_scans, remove
from ainerd_hpc.archive.groups import writing_group
from ainerd_hpc.archive.journal import note_published
from ainerd_hpc.archive.layout import Archive, recorded_digest
from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.archive.tables import write_table
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import console
from ainerd_hpc.digests import digest, fingerprint
from ainerd_hpc.formats.partitions.partition import read_partition
from ainerd_hpc.publishing import write_json
from ainerd_hpc.sources.catalog import catalog_table, publish_ids, publish_records
from ainerd_hpc.sources.discovery import Discovery
from ainerd_hpc.sources.recall import keep
from ainerd_hpc.types import Problem

_NAMED = 3
"""Scans that are named where there are more."""


def publish_shared(config: RunConfig, found: Discovery) -> None:
    """Publish what the scans share: their partitions, under the digests of their content, and the sample log.

    What partitions lack is told when they are published.
    """
    archive = Archive(config.archive)
    known = {record.path: record.partition.digest for record in found.records if record.partition}
    for path in found.partitions:
        if path not in known or recorded_digest(archive.partition_path(known[path])) != known[path]:
            _publish_partition(archive, path)
    publish_found(config, found)
    write_table(archive.sample_log_path, found.sample_log_table)
    note_published(archive.root, archive.sample_log_path)


def publish_found(config: RunConfig, found: Discovery) -> None:
    """Keep what is known of the source, for the next walk, where it is not as it was kept."""
    archive = Archive(config.archive)
    if not found.is_recalled:
        publish_records(archive, found.records, found.folder, found.dataset)
        publish_ids(archive, found.given_ids)
        keep(archive, found, config.source, config.correct)


def publish_catalog(archive: Archive, found: Discovery, problems: Sequence[Problem]) -> None:
    """Publish the catalog; scans with a problem in any stage are `quarantined`, all others `ingested`."""
    made_of = digest(found.key, [f"{problem.scan_id} {problem.reason}" for problem in problems])
    if is_published(archive, found, made_of):
        return
    table = catalog_table(found.scans, problems, found.sample_log_table, "ingested")
    write_table(archive.catalog_path, table)
    note_catalog(archive, found, made_of)


def is_published(archive: Archive, found: Discovery, made_of: str = "") -> bool:
    """Whether the catalog is there as it was published of these scans and, where that is given, of this."""
    try:
        told = json.loads(_catalog_note(archive).read_text(encoding="utf-8"))
        is_same = [told["key"], told["stamp"]] == [found.key, fingerprint([archive.catalog_path])]
        return bool(found.key and is_same and made_of in ("", told["made_of"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def note_catalog(archive: Archive, found: Discovery, made_of: str = "") -> None:
    """Note of what the catalog was made that is published now."""
    stamp = fingerprint([archive.catalog_path])
    write_json(_catalog_note(archive), {"key": found.key, "made_of": made_of, "stamp": stamp})
    note_published(archive.root, archive.catalog_path)


def _catalog_note(archive: Archive) -> Path:
    return archive.root / "journal" / "catalog.json"


def leave_behind(archive: Archive, found: Discovery, prune: bool) -> None:
    """Say which products are of scans that are not among those found; `prune`: remove them."""
    known = {*Scans.of(found.scans).column("scan_id"), *(problem.scan_id for problem in found.problems)}
    others = of_other_scans(archive.root, known)
    if not others:
        return
    for path in itertools.chain(*others.values() if prune else ()):
        remove(path)
    names = ", ".join(itertools.islice(others, _NAMED)) + ", ..." * (len(others) > _NAMED)
    what = "are removed" if prune else "are kept (`run --prune` removes them)"
    line = f"products of {len(others)} scans that are not in the source any more, or not selected, {what}: {names}"
    console.print(line, style="yellow", markup=False)


def _publish_partition(archive: Archive, path: Path) -> None:
    partition = read_partition(path)
    for note in partition.notes:
        console.print(f"{path.name}: {note}", style="yellow", markup=False)
    product = archive.partition_path(partition.digest)
    if recorded_digest(product) == partition.digest:
        return
    with writing_group(product, {"digest": partition.digest, "source": path.name}) as group:
        group.add("mask", partition.mask, ("y", "x"))
        group.add("dynamic_roi_map", partition.dynamic_roi_map, ("y", "x"))
        group.add("static_roi_map", partition.static_roi_map, ("y", "x"))
        group.add("dynamic_q_list", partition.dynamic_q_list, ("q_bin",), units="1/angstrom")
        group.add("static_q_list", partition.static_q_list, ("static_bin",), units="1/angstrom")
        group.add("dynamic_phi_list", partition.dynamic_phi_list, ("q_bin",), units="degree")
        group.add("static_phi_list", partition.static_phi_list, ("static_bin",), units="degree")
