"""The verb `submit`: the whole line, or a part of it, to a batch system."""

from __future__ import annotations

import argparse
from pathlib import Path

from ainerd_hpc.commands.options import add_config, add_part, add_retry, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, the site and the part of the line."""
    add_config(parser)
    site = "what is special about the machine: configs/sites/*.yaml"
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help=site)
    add_part(parser)
    add_retry(parser)
    parser.add_argument("--dry-run", action="store_true", help="print every command line and script, submit nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask, however many node-hours it may take")


def run(options: argparse.Namespace) -> None:
    """Submit a chain of jobs."""
    from ainerd_hpc.site.site_file import load_site
    from ainerd_hpc.submission.chain import submit

    flags = {name: getattr(options, name) for name in ("dry_run", "yes", "retry_failed")}
    submit(config_of(options, options.site), load_site(options.site), options.first, options.until, **flags)
