"""The verb `trace`: where a product, a figure or a page of an archive comes from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ainerd_hpc.commands.options import add_debug

if TYPE_CHECKING:
    from ainerd_hpc.tracing.chain import Step, Trace
    from ainerd_hpc.types import Scan

_MOST = 20
"""Scans whose files are listed; --all lists those of all."""
_LICENSE = "https://spdx.org/licenses/NOASSERTION"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file, and what is told or written of it."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a product, a figure or a page of an archive")
    parser.add_argument("--all", action="store_true", help=f"every source file, not those of the first {_MOST} scans")
    parser.add_argument("--checksums", action="store_true", help="read the sources through for their checksums")
    crate = "write it as RO-Crate metadata: a .json file, or ro-crate-metadata.json in this folder"
    parser.add_argument("--ro-crate", type=Path, metavar="DIR|FILE", help=crate)
    license = "address of the licence of the data, for --ro-crate (none is asserted)"
    parser.add_argument("--license", default=_LICENSE, metavar="URL", help=license)
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Print the way of the file, or write it as a crate."""
    from ainerd_hpc.console import tell
    from ainerd_hpc.tracing.chain import trace
    from ainerd_hpc.tracing.crate import write_crate

    found = trace(options.file.expanduser())
    if options.ro_crate is not None:
        tell(f"written: {write_crate(found, options.ro_crate.expanduser(), options.license, options.checksums)}")
        return
    for line in _lines(found, None if options.all else _MOST, options.checksums):
        tell(line)


def _lines(trace: Trace, most: int | None, is_summed: bool) -> Iterator[str]:
    from ainerd_hpc.archive.layout import recorded_digest
    from ainerd_hpc.tracing.chain import checksum

    yield f"{trace.path}"
    yield f"  sha256 {checksum(trace.path)}"
    yield f"  archive {trace.root}"
    for path in trace.made_of:
        note = ", which has changed since: draw it again" if path in trace.changed else ""
        digest = f", digest {found}" if (found := recorded_digest(path)) else ""
        yield f"  made of {path.relative_to(trace.root)}{digest}{note}" if path != trace.path else f"  product{digest}"
    yield f"sources: {len(trace.scans)} scans"
    for scan in trace.scans[:most]:
        yield from _of_scan(scan, is_summed)
    if most is not None and len(trace.scans) > most:
        yield f"  and {len(trace.scans) - most} more; --all lists them"
    for step in trace.steps:
        yield from _of_step(step, trace.root)
    if trace.model:
        yield f"model: {_text(trace.model)}"
    for versions in {_text(making.versions): None for step in trace.steps for making in step.makings}:
        yield f"versions: {versions}"


def _of_scan(scan: Scan, is_summed: bool) -> Iterator[str]:
    from ainerd_hpc.tracing.chain import checksum, sources_of

    yield f"  {scan.scan_id}, digest {scan.digest}"
    for path, role in sources_of(scan):
        size = f"{path.stat().st_size} bytes" if path.is_file() else "gone"
        yield f"    {role} {path}, {size}" + (f", sha256 {checksum(path)}" if is_summed and path.is_file() else "")


def _of_step(step: Step, root: Path) -> Iterator[str]:
    places = ", ".join(str(path.relative_to(root)) for path in step.products[:3])
    more = f" and {len(step.products) - 3} more" if len(step.products) > 3 else ""
    yield f"{step.stage}: {places}{more}"
    for making in step.makings:
        yield f"  run {making.run_id}, {making.user} on {making.host}, {making.started}: {making.command}"
    for name, section in step.settings.items():
        yield f"  {name}: {_text(section) if isinstance(section, dict) else section}"


def _text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
