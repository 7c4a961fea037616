"""The verb `plan`: what is left to do: tasks, bytes, memory, time; and what that costs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ainerd_hpc.commands.options import add_config, config_of

if TYPE_CHECKING:
    from ainerd_hpc.config import RunConfig
    from ainerd_hpc.types import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, and whether costs are wanted."""
    add_config(parser)
    costs = "node-hours, time, storage and files of the rest, on this machine or on that of --site"
    parser.add_argument("--estimate", action="store_true", help=costs)


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
    if options.estimate:
        _estimate(config, plans)
    check(plans, config)


def _estimate(config: RunConfig, plans: Sequence[Plan]) -> None:
    """Print what the rest costs, and keep it with the archive."""
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.study.estimate import keep_estimate, print_estimate
    from ainerd_hpc.study.place import place_of
    from ainerd_hpc.study.replay import advice, of_stage

    place = place_of(config)
    found = place.estimate(plans)
    if not found:
        print("nothing is left to do, and nothing to estimate")
        return
    print_estimate(found, place.name)
    for one, planned in zip(found, (planned for planned in plans if planned.tasks), strict=True):
        given = of_stage(one, place.fitted.get(one.stage), planned)
        if one.num_tasks > one.workers and (text := advice(given, one.workers)):
            print(f"{one.stage}: {text}")
    keep_estimate(Archive(config.archive), found)
