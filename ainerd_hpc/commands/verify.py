"""The verb `verify`: read every product of an archive through; make anew what is damaged."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ainerd_hpc.commands.options import add_config, config_of, share
from ainerd_hpc.errors import AinerdError, ConfigError

if TYPE_CHECKING:
    from ainerd_hpc.archive.verification import Fault
    from ainerd_hpc.config import RunConfig


_OF_ALL = ("catalog", "sample_log", "files", "index", "relations", "events", "transitions")
"""Names of the products that are about all scans."""


class DamageError(AinerdError):
    """Some products are damaged or missing; all others are whole."""

    exit_code = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, what is read, and what is done about it."""
    add_config(parser)
    parser.add_argument("--again", action="store_true", help="read what was found whole before, too")
    parser.add_argument("--repair", action="store_true", help="remove what is damaged, and run what makes it anew")
    shared = "only the I-th of N shares of the products, while other processes read theirs"
    parser.add_argument("--share", type=share, default=(1, 1), metavar="I/N", help=shared)


def run(options: argparse.Namespace) -> None:
    """Print a line for each fault, and mend what can be mended if that is asked for."""
    config = config_of(options)
    faults = verify(config, options.again, *options.share)
    if faults and options.repair:
        repair(config, faults)
        faults = verify(config)
    if faults:
        raise DamageError(f"{len(faults)} products are damaged or missing; --repair makes anew what can be made")


def verify(config: RunConfig, again: bool = False, number: int = 1, num_shares: int = 1) -> list[Fault]:
    """Print and give the faults of an archive.

    Parameters
    ----------
    config : RunConfig
    again : bool
        Read what was found whole before and has not changed since, too.
    number, num_shares : int
        Of the share that is looked at, from 1; and of all.

    Raises
    ------
    ConfigError
        There is no archive.
    """
    from ainerd_hpc.archive.contents import products
    from ainerd_hpc.archive.journal import DAMAGED_LINES
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.archive.verification import Verification
    from ainerd_hpc.console import Pace, console, progress

    archive = Archive(config.archive)
    if not (paths := list(products(archive.root))):
        raise ConfigError(f"archive {archive.root}: expected products, found none; check the path")
    paths = paths[number - 1 :: num_shares]
    with progress("verify", Pace(len(paths))) as advance:
        damaged = Verification(archive, again).faults(paths, advance)
    fresh = Verification(archive)  # a run may have replaced some meanwhile
    faults = fresh.faults([fault.path for fault in damaged])
    faults += fresh.missing(config) if number == 1 else []
    for fault in faults:
        console.print(str(fault), style="yellow", markup=False)
    console.print(f"{len(paths)} products, {len(faults)} of them damaged or missing")
    if fresh.journal.num_damaged:
        console.print(DAMAGED_LINES.format(fresh.journal.num_damaged))
    return faults


def repair(config: RunConfig, faults: Sequence[Fault]) -> None:
    """Remove the damaged products that this config makes of the scans of the source, and run what makes them.

    Raises
    ------
    AinerdError
        As `Run.execute`.
    """
    from ainerd_hpc.archive import contents
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.pipeline import Run
    from ainerd_hpc.planning import stage_names, survey

    archive, found = Archive(config.archive), survey(config)  # before anything is removed
    paths = [fault.path for fault in faults]
    made = {contents.stage_of(archive.root, path) for path in (*contents.products(archive.root), *paths)}
    keys = {key for scan in found.scans for key in (scan.scan_id, scan.partition)} | {config.model.name, *_OF_ALL}
    with archive.locked():
        for path in paths:
            if contents.key_of(archive.root, path) in keys:
                path.unlink(missing_ok=True)
    Run(config, until=[name for name in stage_names(config) if name in made][-1]).execute()
