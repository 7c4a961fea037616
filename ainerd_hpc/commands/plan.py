"""The verb `plan`: what is left to do: tasks, bytes, memory, time."""

from __future__ import annotations

import argparse

from ainerd_hpc.commands.options import add_config, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config."""
    add_config(parser)


def run(options: argparse.Namespace) -> None:
    """Print what every stage has left to do, and refuse what cannot fit."""
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.archive.run_record import last_reports
    from ainerd_hpc.console import print_plans, print_predictions, print_rows, size_text
    from ainerd_hpc.planning import allowed_memory, check, plan, survey
    from ainerd_hpc.scaling.cost_model import prices

    config = config_of(options)
    found = survey(config)
    plans = plan(config, found=found)
    print_plans(plans, [allowed_memory(config, planned.shape) for planned in plans])
    print_predictions(last_reports(Archive(config.archive)))
    titles = ("counts", "written about", "once, thread s", "read by a correlation", "thread s")
    rows = [
        (way, size_text(put), f"{once:.2g}", size_text(got), f"{time:.2g}")
        for way, put, once, got, time in prices(found.scans)
    ]
    print_rows("What keeping the counts costs, estimated from the sizes of the files", titles, rows)
    check(plans, config)
