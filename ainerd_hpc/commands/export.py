"""The verb `export`: correlations of an archive -> files that other programs open, one scan a file."""

from __future__ import annotations

import argparse
import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ainerd_hpc.archive.groups import array, reading_group
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_of
from ainerd_hpc.commands.options import add_archive, add_debug, archive_of
from ainerd_hpc.console import Pace, console, progress, tell
from ainerd_hpc.correlation.product import C2_SUMS, StoredC2, described
from ainerd_hpc.correlation.selection import recorded_selection
from ainerd_hpc.errors import AinerdError, ConfigError, ScanError
from ainerd_hpc.formats.results.aps import write_aps_result
from ainerd_hpc.formats.results.nxxpcs import write_nxxpcs
from ainerd_hpc.formats.results.tables import write_fits, write_g2, write_intensity, write_maps
from ainerd_hpc.formats.results.writing import Result, unknown
from ainerd_hpc.loading import load
from ainerd_hpc.publishing import publishing
from ainerd_hpc.types import Scan

_ROWS = 1024
"""Rows of C2 that are read at a time."""


Writers = Mapping[str, Callable[[Path, Result], None]]
FORMATS: Mapping[str, Writers] = {
    "aps": {"_results.hdf": write_aps_result},
    "nxxpcs": {"_nxxpcs.h5": write_nxxpcs},
    "csv": {"_fits.csv": write_fits, "_g2.csv": write_g2, "_intensity.csv": write_intensity},
}
"""name -> how the names of its files end, and what writes them."""
_CLUSTERED: Mapping[str, Writers] = {"csv": {"_maps.csv": write_maps}}
"""The same, for archives that are clustered."""
_OF_MAPS = (
    *("map_id", "q_bin", "q", "age_start", "age_stop", "half_decay", "tau"),
    *("label", "kind", "probability", "novelty", "next_label", "x", "y"),
)


class ExportError(AinerdError):
    """Some scans could not be exported; all others are."""

    exit_code = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the archive, the format, the scans and where they go."""
    add_archive(parser)
    formats = (
        "aps: results that pyXpcsViewer opens; nxxpcs: by the NeXus definition; csv: g2, fits and intensities as tables"
    )
    parser.add_argument("--format", choices=("aps", "nxxpcs", "csv"), required=True, help=formats)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a file a scan goes here")
    parser.add_argument("--scan", action="append", default=[], metavar="ID", help="this scan alone; may be repeated")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Write the files."""
    export(archive_of(options), options.format, options.output.expanduser(), options.scan, options.overwrite)


def export(archive: Archive, name: str, output: Path, scan_ids: Collection[str] = (), overwrite: bool = False) -> None:
    """Write the correlation of scans in one of `FORMATS`, a file a scan.

    Parameters
    ----------
    name : str
        Of the format.
    output : Path
        Folder.
    scan_ids : collection of str
        Default: all scans that are not in quarantine.
    overwrite : bool
        Replace files that are there.

    Raises
    ------
    ConfigError
        The archive has no such scan.
    ExportError
        Some scans could not be exported.
    """
    scans = _chosen(archive, scan_ids)
    model = _clustered_by(archive)
    writers = {**FORMATS[name], **(_CLUSTERED.get(name, {}) if model else {})}
    num_failed, missing = 0, Counter[str]()
    with progress("export", Pace(len(scans))) as advance:
        for scan in scans:
            try:
                with _result(archive, scan, model) as result:
                    _export(result, writers, output, overwrite)
                missing.update(unknown(scan) if name != "csv" else ())
            except (AinerdError, OSError) as error:
                num_failed += 1
                tell(f"not exported: {scan.scan_id}: {' '.join(str(error).split())}")
            advance("")
    if missing:
        counts = ", ".join(f"{what} ({num} scans)" for what, num in missing.items())
        console.print(f"not known in the archive, so NaN (start_time: empty) in the files: {counts}", style="yellow")
    if num_failed:
        raise ExportError(f"{num_failed} of {len(scans)} scans could not be exported, all others are in {output}")


def _chosen(archive: Archive, scan_ids: Collection[str]) -> Sequence[Scan]:
    catalog = {scan.scan_id: scan for scan in archive.read_catalog()}
    if not catalog:
        raise ConfigError(f"archive {archive.root}: expected a catalog, found none; run `ainerd-hpc run` first")
    for scan_id in scan_ids:
        if scan_id not in catalog:
            near = difflib.get_close_matches(scan_id, catalog, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {len(catalog)} scans, such as {next(iter(catalog))}"
            raise ConfigError(f"--scan {scan_id}: the archive {archive.root} has no such scan; {hint}")
    if scan_ids:
        return [catalog[scan_id] for scan_id in dict.fromkeys(scan_ids)]
    return [scan for scan in catalog.values() if scan.state != "quarantined"]


def _clustered_by(archive: Archive) -> str:
    """Name of the model by which the archive is clustered; empty where it is not, or keeps no config."""
    if not archive.config_path.exists():
        return ""
    name = load(archive.config_path).model.name
    return name if archive.clusters_path(name).exists() else ""


def _maps(archive: Archive, scan_id: str, model: str) -> pd.DataFrame:
    """What is said of the maps of a scan, with their latents."""
    maps = read_of(archive.clusters_path(model), "scan_id", scan_id, [*_OF_MAPS])
    latents = read_of(archive.embedding_path(model), "scan_id", scan_id, ["map_id", "latent"])
    return maps.merge(latents, on="map_id", validate="one_to_one")


def _export(result: Result, writers: Writers, output: Path, overwrite: bool) -> None:
    paths = {output / f"{result.scan.scan_id}{suffix}": write for suffix, write in writers.items()}
    there = [str(path) for path in paths if path.exists()]
    if there and not overwrite:
        raise ScanError(there[0], "expected no file of this name, found one", "give --overwrite or another --output")
    for path, write in paths.items():
        with publishing(path) as temporary:
            write(temporary, result)


@contextmanager
def _result(archive: Archive, scan: Scan, model: str) -> Iterator[Result]:
    """What the archive holds of a scan, C2 to be read while the block lasts."""
    path = archive.correlation_path(scan.scan_id)
    if not path.exists():
        raise ScanError(str(path), "expected a correlation, found none", "run `ainerd-hpc run --until correlate`")
    with reading_group(path) as group:
        attributes: dict[str, Any] = dict(group.attrs)
        c2 = StoredC2(group)
        frames = recorded_selection(scan, attributes["options"])

        def rows(q_bin: int) -> Iterator[tuple[int, np.ndarray]]:
            for start in range(0, c2.shape[1], _ROWS):
                yield start, c2[q_bin, slice(start, start + _ROWS), slice(None)]

        yield Result(
            scan=scan,
            first_frame=frames.first,
            stride_frames=frames.stride,
            average_frames=frames.average,
            attributes=attributes,
            arrays={name: described(group, name) for name in sorted(set(group.array_keys()) - {C2_SUMS})},
            partition=_partition(archive, str(attributes["partition"])),
            num_q_bins=c2.shape[0],
            num_frames=c2.shape[1],
            rows=rows,
            maps=_maps(archive, scan.scan_id, model) if model else None,
        )


def _partition(archive: Archive, digest: str) -> dict[str, np.ndarray]:
    if not digest:
        return {}
    with reading_group(archive.partition_path(digest)) as group:
        return {name: array(group, name)[...] for name in group.array_keys()}
