"""The verb `catalog`: look at source folders, keep what is there as one table, ask it."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.run_record import keep_config
from ainerd_hpc.archive.tables import read_table, write_table
from ainerd_hpc.commands.options import add_debug, archive_of, config_of, count, without_overrides
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import console, print_problems, print_rows, size_text
from ainerd_hpc.errors import ConfigError, ProductError, QuarantinedError
from ainerd_hpc.publishing import publishing
from ainerd_hpc.sources.catalog import catalog_table, chosen_scans

if TYPE_CHECKING:
    from ainerd_hpc.sources.discovery import Discovery

_SHOWN = ("scan_id", "format", "num_frames", "height", "width", "frame_time", "start", "detector", "state", "goes with")
_SUMMARISED = ["format", "state", "num_frames", "stored_bytes", "start_time"]
_PAIRED = ("metadata_file", "partition_file", "dark", "flat")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folders or the condition, the archive, and where rows go."""
    parser.usage = "ainerd-hpc catalog (ROOT... | show | query CONDITION) [--archive DIR] [--config FILE] [options]"
    parser.add_argument("what", nargs="*", metavar="ROOT", help="folders of scans; default: those of the config")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file, or an archive; not needed with --archive"
    )
    parser.add_argument("--archive", metavar="DIR", help="folder of the archive: the catalog goes there")
    without_overrides(parser)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--limit", type=count, default=20, metavar="N", help="rows to show; default: 20")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the chosen rows as .csv or .parquet")
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Make the catalog, show it, or ask it."""
    task, *words = options.what or [""]
    if task not in ("show", "query"):
        if options.what:
            options.overrides.append(f"source.path={json.dumps(options.what, ensure_ascii=False)}")
        make(config_of(options))
        return
    condition = " ".join(words)
    if (task == "query") == (not condition):
        raise ConfigError(f"catalog {task}: expected `catalog show` or `catalog query CONDITION`, found {words}")
    ask(archive_of(options), condition, options.limit, options.output)


def make(config: RunConfig) -> None:
    """Look at all source folders and publish the catalog; files that have not changed are not opened again.

    Raises
    ------
    QuarantinedError
        The catalog is made, and some scans in it have problems.
    """
    from ainerd_hpc.sources.recall import find
    from ainerd_hpc.sources.shared_products import is_published, note_catalog, publish_found

    archive, began = Archive(config.archive), time.perf_counter()
    with archive.locked():
        found = find(archive, config.source, config.correct)
        publish_found(config, found)
        if not is_published(archive, found):
            write_table(archive.catalog_path, _table(archive, found))
            note_catalog(archive, found)
        if not archive.config_path.exists():
            keep_config(config)
    seconds = time.perf_counter() - began
    _print_summary(read_table(archive.catalog_path, _SUMMARISED))
    console.print(
        f"{found.num_files} files in {seconds:.1f} s ({found.num_files / seconds:.0f} files/s), {found.num_opened} of "
        f"them opened; {archive.catalog_path}",
        markup=False,
    )
    for note in found.notes:
        console.print(note, style="yellow", markup=False)
    if found.problems:
        print_problems(found.problems)
        raise QuarantinedError(f"{len(found.problems)} of {len(found.scans)} scans have problems: column `problems`")


def _table(archive: Archive, found: Discovery) -> pd.DataFrame:
    """The catalog of what was found; what was ingested before, and has not changed, stays so."""
    table = catalog_table(found.scans, found.problems, found.sample_log_table)
    with contextlib.suppress(ProductError, KeyError):  # it is made anew here
        before = read_table(archive.catalog_path, ["scan_id", "digest", "state"])
        ingested = before[before["state"] == "ingested"].set_index("scan_id")["digest"]
        is_same = table["scan_id"].map(ingested) == table["digest"]
        table.loc[is_same & (table["problems"] == ""), "state"] = "ingested"
    return table


def ask(archive: Archive, condition: str, limit: int, output: Path | None) -> None:
    """Print the scans for which a condition holds (all where it is empty), or write their rows as CSV or Parquet.

    Raises
    ------
    ConfigError
        There is no catalog, the condition is wrong, or the output is neither .csv nor .parquet.
    """
    if not archive.catalog_path.exists():
        raise ConfigError(f"archive {archive.root}: no catalog; make it: `ainerd-hpc catalog ROOT... --archive DIR`")
    table = read_table(archive.catalog_path)
    chosen = chosen_scans(table, condition) if condition else table
    if output is not None:
        _write(chosen, output)
    start = pd.to_datetime(chosen["start_time"], unit="s", errors="coerce").dt.strftime("%Y-%m-%d %H:%M:%S")
    rows = chosen.assign(start=start).head(limit)
    rows["goes with"] = [_names(row) for row in rows[list(_PAIRED)].itertuples(index=False)]
    print_rows(f"{len(chosen)} of {len(table)} scans", _SHOWN, rows[list(_SHOWN)].itertuples(index=False))
    for reason in rows["problems"][rows["problems"] != ""]:
        console.print(reason, style="yellow", markup=False)
    if len(chosen) > limit:
        console.print(f"... and {len(chosen) - limit} more (--limit)")


def _names(files: Iterable[str]) -> str:
    """The names of the files that a scan is paired with; the columns have where they lie."""
    return ", ".join(Path(path).name for path in files if path)


def _write(table: pd.DataFrame, output: Path) -> None:
    if output.suffix not in {".csv", ".parquet"}:
        raise ConfigError(f"--output {output}: expected a name that ends in .csv or .parquet, found '{output.suffix}'")
    if output.suffix == ".parquet":
        write_table(output, table)
        return
    with publishing(output) as temporary:
        table.to_csv(temporary, index=False)


def _print_summary(table: pd.DataFrame) -> None:
    rows: list[Sequence[object]] = []
    for (name, state), scans in table.groupby(["format", "state"]):
        start = pd.to_datetime(scans["start_time"], unit="s", errors="coerce")
        dates = ["-" if pd.isna(date) else f"{date:%Y-%m-%d}" for date in (start.min(), start.max())]
        size = size_text(float(np.sum(scans["stored_bytes"])))
        rows.append((name, state, len(scans), int(scans["num_frames"].sum()), size, *dates))
    print_rows("Catalog", ("format", "state", "scans", "frames", "stored", "first", "last"), rows)
