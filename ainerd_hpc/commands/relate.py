"""The verb `relate`: what goes with what in an archive, as its report found it."""

from __future__ import annotations

import argparse

from ainerd_hpc.commands.options import add_archive, add_debug, archive_of
from ainerd_hpc.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the archive."""
    add_archive(parser)
    parser.add_argument("--all", action="store_true", help="what is not sure, too, and how labels follow each other")
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Print a sentence for each finding, the surest first."""
    from ainerd_hpc.archive.tables import read_table
    from ainerd_hpc.console import tell
    from ainerd_hpc.report.relations import Tables

    archive = archive_of(options)
    paths = [archive.relations_path(name) for name in Tables._fields]
    if not paths[0].exists():
        raise ConfigError(f"archive {archive.root}: expected relations, found none; run `ainerd-hpc report`")
    tables = Tables(*map(read_table, paths))
    for one in tables if options.all else [tables.findings]:
        for words in one["words"]:
            tell(words)
    if not options.all and tables.findings.empty:
        tell("nothing goes with the clusters that chance would not give; --all tells what was compared")
