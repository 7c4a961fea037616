"""The verb `figures`: figures for papers, with the numbers that they show."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ainerd_hpc.commands.options import add_archive, add_debug, archive_of
from ainerd_hpc.errors import ConfigError

if TYPE_CHECKING:
    from ainerd_hpc.api import Archive
    from ainerd_hpc.figures.drawn import Drawn

OF_SCANS, OF_ARCHIVES = ("c2", "g2", "tau_q"), ("map", "exemplars", "physics", "transitions", "timeline")


_SCANS = 3
"""Scans that are drawn where none is named: those that stand for the largest clusters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the archive, which figures, of which scans, how they look and where they go."""
    add_archive(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="they go here (DIR/figures)")
    only = "this figure alone; may be repeated"
    parser.add_argument("--only", action="append", choices=(*OF_SCANS, *OF_ARCHIVES), metavar="NAME", help=only)
    scans = "draw this scan; may be repeated (those that stand for the three largest clusters)"
    parser.add_argument("--scan", action="append", default=[], metavar="ID", help=scans)
    parser.add_argument(
        "--style", type=Path, metavar="FILE", help="style file of matplotlib that overrides how they look"
    )
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Write each figure as PDF and PNG, its numbers as CSV, and what they were made of."""
    from ainerd_hpc.api import open
    from ainerd_hpc.console import Pace, progress, tell

    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("figures: expected matplotlib, found none; run `pip install 'ainerd-hpc[figures]'`")
    archive = open(archive_of(options).root)
    output = (options.output or archive.path / "figures").expanduser()
    names = options.only or (*OF_SCANS, *OF_ARCHIVES)
    written = dict[str, Sequence[Path]]()
    scans = options.scan or (_typical(archive) if set(names) & set(OF_SCANS) else [])
    from ainerd_hpc.figures.drawn import styled, write

    with styled(options.style), progress("figures", Pace(len(names))) as advance:
        for name in names:
            for stem, drawn in _drawn(archive, name, scans):
                if drawn is None:
                    tell(f"{stem}: the archive has nothing of this to draw")
                else:
                    files = write(drawn, output / stem)
                    written |= {file.name: drawn.made_of for file in files}
            advance("")
    _note(archive, output, written)
    tell(f"{len(written)} files in {output}")


def _drawn(archive: Archive, name: str, scans: Collection[str]) -> Iterator[tuple[str, Drawn | None]]:
    """A figure of the archive, or one of each scan, with the stem of its files."""
    from ainerd_hpc.figures import of_archives, of_scans

    if name in OF_SCANS:
        yield from ((f"{name}_{scan_id}", of_scans.OF_SCANS[name](archive, scan_id)) for scan_id in scans)
    elif _is_clustered(archive):
        yield name, of_archives.OF_ARCHIVES[name](archive)
    else:
        yield name, None


def _is_clustered(archive: Archive) -> bool:
    return archive.layout.cluster_summary_path(archive.model).exists()


def _typical(archive: Archive) -> list[str]:
    """The scans of the medoids of the largest clusters; the first scans of an archive that has none."""
    if not _is_clustered(archive) or archive.clusters.empty:
        paths = (archive.layout.correlation_path(str(scan_id)) for scan_id in archive.scans.index)
        return [path.name.removesuffix(".zarr.zip") for path in paths if path.exists()][:_SCANS]
    medoids = archive.clusters.sort_values("maps", ascending=False, kind="stable")["medoid"]
    scans = archive.maps.set_index("map_id").loc[medoids, "scan_id"]
    return list(dict.fromkeys(scans))[:_SCANS]


def _note(archive: Archive, output: Path, written: dict[str, Sequence[Path]]) -> None:
    """Publish what each file was made of, beside those of earlier calls: paths as seen from there, with digests."""
    from ainerd_hpc.archive.layout import recorded_digest
    from ainerd_hpc.publishing import write_json
    from ainerd_hpc.tracing.chain import MANIFEST

    path = output / MANIFEST
    known = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.exists() else {}
    here = output.resolve()
    made_of = {
        name: {os.path.relpath(one.resolve(), here): recorded_digest(one) for one in products if one.exists()}
        for name, products in written.items()
    }
    root = os.path.relpath(archive.path.resolve(), here)
    write_json(path, {"archive": root, "model": archive.model, "figures": {**known, **made_of}})
