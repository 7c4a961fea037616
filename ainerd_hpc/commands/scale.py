"""The verb `scale`: how the stages scale over workers, measured, with a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from ainerd_hpc.commands.options import add_config, config_of, count, end_in_order
from ainerd_hpc.stages.registry import STAGES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, and what is varied."""
    add_config(parser)
    workers = "numbers of workers (executor.workers); default: 1, 2, 4 ... up to those of the config"
    parser.add_argument("--workers", type=count, nargs="+", metavar="N", help=workers)
    parser.add_argument("--repeats", type=count, default=3, metavar="N", help="runs of each; default: 3")
    parser.add_argument("--until", choices=STAGES, default="maps", metavar="STAGE", help="last stage; default: maps")
    kinds = "strong: all scans; weak: as many more scans as there are workers; default: both"
    parser.add_argument("--kinds", nargs="+", choices=("strong", "weak"), default=["strong", "weak"], help=kinds)
    parser.add_argument("--out", type=Path, default=Path("scaling"), metavar="DIR", help="default: ./scaling")


def run(options: argparse.Namespace) -> None:
    """Run the line with each number of workers, again and again, and write the report."""
    end_in_order()
    from ainerd_hpc.study.measuring import measure
    from ainerd_hpc.study.scaling_report import check_figures, write_report

    check_figures()
    config = config_of(options)
    most = config.executor.num_workers
    workers = options.workers or sorted({*(2**power for power in range(most.bit_length())), most})
    measured = measure(config, sorted(set(workers)), options.repeats, options.until, options.out, options.kinds)
    print(f"report: {write_report(measured, options.out, f'Scaling of {config.report.title}')}")
