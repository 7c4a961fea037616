"""The verb `submit`: the whole line, or a part of it, to a batch system."""

from __future__ import annotations

import argparse

from ainerd_hpc.commands.options import add_config, add_part, add_retry, config_of
from ainerd_hpc.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config and the part of the line."""
    add_config(parser)
    add_part(parser)
    add_retry(parser)
    parser.add_argument("--dry-run", action="store_true", help="print every command line and script, submit nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask, however many node-hours it may take")


def run(options: argparse.Namespace) -> None:
    """Submit a chain of jobs."""
    from ainerd_hpc.site.site_file import load_site
    from ainerd_hpc.submission.chain import submit

    config = config_of(options)
    if config.executor.site is None:
        raise ConfigError("submit: expected a site file, found none; give --site FILE, or executor.site in the config")
    flags = {name: getattr(options, name) for name in ("dry_run", "yes", "retry_failed")}
    submit(config, load_site(config.executor.site), options.first, options.until, **flags)
