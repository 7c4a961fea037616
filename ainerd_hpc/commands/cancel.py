"""The verb `cancel`: cancel the jobs of an archive that have not ended."""

from __future__ import annotations

import argparse

from ainerd_hpc.commands.options import add_config, archive_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config: what was submitted is cancelled by the same words."""
    add_config(parser)


def run(options: argparse.Namespace) -> None:
    """Cancel them."""
    from ainerd_hpc.submission.chain import cancel

    cancel(archive_of(options).root)
