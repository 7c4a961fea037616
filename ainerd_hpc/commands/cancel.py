"""The verb `cancel`: cancel the jobs of an archive that have not ended."""

from __future__ import annotations

import argparse

from ainerd_hpc.commands.options import add_archive, add_debug, archive_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the archive."""
    add_archive(parser)
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Cancel them."""
    from ainerd_hpc.submission.chain import cancel

    cancel(archive_of(options).root)
