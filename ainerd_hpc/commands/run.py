"""The verb `run`: the whole line, or a part of it."""

from __future__ import annotations

import argparse

from ainerd_hpc.commands.options import add_config, add_part, add_retry, config_of, end_in_order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config and the part of the line."""
    add_config(parser)
    add_part(parser)
    add_retry(parser)
    gone = "remove the products of scans that are not in the source any more, or not selected"
    parser.add_argument("--prune", action="store_true", help=gone)


def run(options: argparse.Namespace) -> None:
    """Run the stages that are asked for; what is done already is kept."""
    end_in_order()  # before what takes seconds to import
    from ainerd_hpc.pipeline import Run

    Run(config_of(options), options.first, options.until, options.retry_failed, options.debug, options.prune).execute()
