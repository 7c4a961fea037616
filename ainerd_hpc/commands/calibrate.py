"""The verb `calibrate`: measure this machine once, so that the fastest way is chosen."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: all of the machine is measured."""


def run(options: argparse.Namespace) -> None:
    """Measure, keep and print what the kernels take."""
    from ainerd_hpc.kernels.choice import even_density
    from ainerd_hpc.scaling.measure import calibrate
    from ainerd_hpc.site.calibration import Machine, costs_path

    machine = calibrate()
    for name, stated in Machine().figures.items():
        measured = machine.figures[name]
        print(f"{name:16} {measured:8.2e} s, {measured / stated:.2f} times the stated constant")
    print(f"events are faster below {even_density(machine.costs):.3f} photons per pixel and frame in 1000 frames")
    print(f"kept in {costs_path()}")
