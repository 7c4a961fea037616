"""The verb `replay`: what a stage would take on ever more workers, and what limits it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ainerd_hpc.commands.options import add_config, config_of, count
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.stages.registry import STAGES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, the stage, and what is assumed."""
    add_config(parser)
    parser.add_argument("--stage", choices=STAGES, default="correlate", metavar="STAGE", help="default: correlate")
    parser.add_argument("--most", type=count, default=10_000, metavar="N", help="most workers; default: 10000")
    assumed = "what is not measured, or is otherwise there: num_tasks=10000000, scheduler=1e-4, queue=600 ..."
    parser.add_argument("--assume", action="append", default=[], metavar="KEY=VALUE", help=assumed)
    held = "hold the replay against the runs of `ainerd-hpc scale` in this scale.jsonl, and do nothing else"
    parser.add_argument("--check", type=Path, metavar="FILE", help=held)


def run(options: argparse.Namespace) -> None:
    """Print a table of replays, the knee and what to change."""
    if options.check:
        _check(options.check)
        return
    from ainerd_hpc.console import print_rows, time_text
    from ainerd_hpc.planning import plan
    from ainerd_hpc.study.place import place_of
    from ainerd_hpc.study.replay import advice, knee, of_stage

    config = config_of(options)
    place = place_of(config)
    (planned,) = (one for one in plan(config, until=options.stage) if one.stage == options.stage)
    if not planned.tasks:
        raise ConfigError(f"replay: expected tasks of {options.stage} to do, found none; give another --archive")
    (one,) = place.estimate([planned])
    given = of_stage(one, place.fitted.get(one.stage), planned, **_assumed(options.assume))
    found, most = knee(given, options.most)
    rows = [
        (str(row.workers), time_text(row.seconds), f"{row.efficiency:.2f}", f"{row.limit} {row.lost:.0%}")
        for row in found
    ]
    print_rows(
        f"Replay of {given.num_tasks} tasks of {options.stage}", ("workers", "time", "of use", "most is lost to"), rows
    )
    print(f"up to {most} workers are of use for nine tenths of their time")
    print(advice(given, options.most) or f"{options.most} workers need no change")
    print(f"with {', '.join(f'{name} {value:.3g}' for name, value in vars(given).items())}")


def _assumed(texts: list[str]) -> dict[str, float]:
    try:
        pairs = (text.split("=") for text in texts)
        return {name: int(value) if name in ("num_tasks", "schedulers") else float(value) for name, value in pairs}
    except ValueError:
        raise ConfigError(f"--assume: expected KEY=NUMBER, found {' '.join(texts)}; correct it") from None


def _check(path: Path) -> None:
    from ainerd_hpc.console import print_rows
    from ainerd_hpc.study.measuring import Measured
    from ainerd_hpc.study.replay import of_run, replay

    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    runs = [Measured(**line) for line in lines if "stage" in line]
    rows = []
    for one in runs:
        seconds = replay(of_run(one), one.workers).seconds
        off = f"{seconds / one.seconds - 1:+.0%}"
        rows.append((one.stage, one.kind, one.workers, one.repeat + 1, one.seconds, seconds, off))
    titles = ("stage", "kind", "workers", "repeat", "measured, s", "replayed, s", "off")
    print_rows("Replays of runs that were measured, from the mean time of their tasks", titles, rows)
