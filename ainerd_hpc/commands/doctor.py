"""The verb `doctor`: check a site in a minute."""

from __future__ import annotations

import argparse
from pathlib import Path

from ainerd_hpc.commands.options import add_debug, config_of, count, end_in_order, without_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is to be checked."""
    without_overrides(parser)
    config = "YAML file, or an archive, for its archive and its site"
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help=config)
    parser.add_argument("--site", type=Path, metavar="FILE", help="also the batch system, with jobs through its queue")
    parser.add_argument("--archive", type=Path, metavar="DIR", help="its file system is checked; default: here")
    parser.add_argument("--wait", type=count, default=30, metavar="SECONDS", help="for a job to answer; default: 30")
    parser.add_argument("--two-nodes", action="store_true", help="try the network, where the site needs one node only")
    parser.add_argument("--json", action="store_true", help="all findings as one JSON list")
    parser.add_argument("--node", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)  # in its jobs
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Examine the machine, or answer as a job of an examination."""
    from ainerd_hpc.doctor.examination import examine
    from ainerd_hpc.doctor.node import answer
    from ainerd_hpc.site.site_file import load_site

    if options.node:
        answer(options.node)
        return
    end_in_order()
    config = config_of(options) if options.config else None
    site = options.site or (config.executor.site if config else None)
    archive = options.archive or (config.archive if config else Path())
    wanted = {"wait": options.wait, "two_nodes": options.two_nodes, "as_json": options.json}
    examine(config, load_site(site) if site else None, archive.expanduser(), **wanted)
