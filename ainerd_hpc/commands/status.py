"""The verb `status`: where the archive stands, and the jobs of its stages."""

from __future__ import annotations

import argparse

from ainerd_hpc.commands.options import add_config, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config."""
    add_config(parser)


def run(options: argparse.Namespace) -> None:
    """Print a table of the stages, with their jobs."""
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.archive.run_record import last_run
    from ainerd_hpc.archive.standing import standing_text
    from ainerd_hpc.console import console, print_status
    from ainerd_hpc.planning import plan
    from ainerd_hpc.study.estimate import comparison
    from ainerd_hpc.submission.status import stage_statuses

    config = config_of(options)
    plans = plan(config)
    rows, notes = stage_statuses(config.archive, plans)
    archive = Archive(config.archive)
    print_status(plans, last_run(archive), rows)
    training = standing_text(archive.checkpoints_folder(config.model.name))
    for note in [training] * bool(training) + notes + comparison(archive):
        console.print(note, markup=False)
