"""The verb `calibrate`: measure this machine once, so that the fastest way is chosen; learn from what runs took."""

from __future__ import annotations

import argparse
from pathlib import Path

from ainerd_hpc.commands.options import add_debug


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the archives to learn from, and the site on which they were made."""
    archives = "fit the predictions to what the tasks of these archives took; without any, measure this machine"
    parser.add_argument("archives", nargs="*", type=Path, metavar="ARCHIVE", help=archives)
    parser.add_argument("--site", type=Path, metavar="FILE", help="they were made on this site, not on this machine")
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Measure this machine, or fit what archives show; keep and print it."""
    if options.archives:
        _fit(options.archives, options.site)
    else:
        _measure()


def _fit(archives: list[Path], site: Path | None) -> None:
    from ainerd_hpc.console import print_rows
    from ainerd_hpc.scaling.fitting import keep_fitted
    from ainerd_hpc.study.samples import fit_archives

    fitted = fit_archives(archives)
    rows = [
        (stage, fit.num_tasks, ", ".join(f"{name} {factor:.2g}" for name, factor in fit.factors.items()), fit.start)
        + (f"{fit.noise:.0%}", fit.clock, fit.gap, fit.written)
        for stage, fit in fitted.items()
    ]
    titles = (
        "stage",
        "tasks",
        "times the formula",
        "start, CPU s",
        "spread",
        "s a CPU s",
        "s between",
        "of planned bytes",
    )
    print_rows("What the tasks took, of what the formulas say", titles, rows)
    print(f"kept in {keep_fitted(fitted, site)}")


def _measure() -> None:
    from ainerd_hpc.kernels.choice import even_density
    from ainerd_hpc.scaling.measure import calibrate
    from ainerd_hpc.site.calibration import Machine, costs_path

    machine = calibrate()
    for name, stated in Machine().figures.items():
        measured = machine.figures[name]
        print(f"{name:16} {measured:8.2e} s, {measured / stated:.2f} times the stated constant")
    print(f"events are faster below {even_density(machine.costs):.3f} photons per pixel and frame in 1000 frames")
    print(f"kept in {costs_path()}")
