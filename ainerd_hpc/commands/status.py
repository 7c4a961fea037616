"""The verb `status`: where the archive stands, and the jobs of its stages."""

from __future__ import annotations

import argparse
import time
from datetime import datetime

from ainerd_hpc.commands.options import add_config, config_of, count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, and how often it is looked."""
    add_config(parser)
    again = "look again every so many seconds (10), until Ctrl-C"
    parser.add_argument("--watch", metavar="SECONDS", nargs="?", type=count, const=10, help=again)


def run(options: argparse.Namespace) -> None:
    """Print a table of the stages, with their jobs; again and again where that is asked for."""
    from ainerd_hpc.console import console

    try:
        while True:
            if options.watch:
                console.clear()
                console.print(f"{datetime.now():%H:%M:%S}, again every {options.watch} s", markup=False)
            _show(options)
            if not options.watch:
                return
            time.sleep(options.watch)
    except KeyboardInterrupt:
        if not options.watch:
            raise


def _show(options: argparse.Namespace) -> None:
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.archive.run_record import last_run
    from ainerd_hpc.archive.standing import standing_text
    from ainerd_hpc.console import console, print_status
    from ainerd_hpc.planning import plan
    from ainerd_hpc.study.estimate import comparison
    from ainerd_hpc.submission.status import stage_statuses, statuses_here

    config = config_of(options)
    plans = plan(config)
    rows, notes = stage_statuses(config.archive, plans)
    archive = Archive(config.archive)
    if not rows and archive.is_locked():
        rows = statuses_here(config.archive, plans)
    print_status(plans, last_run(archive), rows)
    training = standing_text(archive.checkpoints_folder(config.model.name))
    for note in [training] * bool(training) + notes + comparison(archive):
        console.print(note, markup=False)
