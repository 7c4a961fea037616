"""Our correlation and its peers', on the same simulated detector files, one after the other in one run.

    python -m benchmarks.correlation [--repeats 3] [--mean 0.3 0.01] [--set KEY=VALUE] [--full]

Prints Markdown. Each job runs in a fresh process, warmed up on a tiny scan, in turn and then in the opposite order; the
fastest counts. Each result is compared with its own definition in float64; a wrong one ends the benchmark.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import floor, photons
from benchmarks.sides import OURS, PEERS, Side, has_peers, measure, scan_of, scikit_beam_c2

_PARTS = ("seconds", "cpu", "base_mb", "peak_mb", "versions", "deviation")
"""What is not a part of the job in a line."""

_NOTES = """Seconds are from opening the raw file, in the page cache, to the results: in a file for ainerd_hpc and
boost_corr, in memory for the others. Peak memory is without child processes (boost_corr's two loaders). `converting` is
from frames to photons, by NumPy, since xpcs-correlator reads no raw files; its kernel by pixel runs on one thread.
boost_corr runs with --crop-ratio-threshold 1.1 and, for g2, -nf 0. Off by: largest difference from the side's own
definition in float64, of three rings, relative to max(1, value)."""


@dataclass(frozen=True)
class Outcome:
    """The runs of one side."""

    side: Side
    lines: list[dict[str, Any]]
    scale: float
    """From the frames that it correlated to all of them."""

    @property
    def best(self) -> dict[str, Any]:
        return min(self.lines, key=lambda line: line["seconds"])

    @property
    def seconds(self) -> float:
        return float(self.best["seconds"] * self.scale)


def compare(sides: Sequence[Side], content: photons.Photons, repeats: int) -> list[Outcome]:
    """Run all sides on one scan, `repeats` times.

    Raises
    ------
    ValueError
        A result is not what its definition gives.
    """
    scan, lines = scan_of(content), defaultdict(list)
    rings = (0, content.num_q_bins // 2, content.num_q_bins - 1)
    for repeat in range(repeats):
        for index in list(range(len(sides)))[:: -1 if repeat % 2 else 1]:
            line = measure(sides[index], scan, () if repeat else rings)
            check(sides[index], line)
            lines[index].append(line)
            print(f"{sides[index].name}, {sides[index].computes}: {line['seconds']:.2f} s", file=sys.stderr)
    scales = [(content.num_frames / side.frames) ** 2 if side.frames else 1 for side in sides]
    return [Outcome(side, lines[index], scales[index]) for index, side in enumerate(sides)]


def check(side: Side, line: dict[str, Any]) -> None:
    """Raise ValueError if a deviation is above the side's tolerance, or no number."""
    for result, deviation in line["deviation"].items():
        if not deviation <= side.tolerance:
            raise ValueError(f"{side.name}: {result} is off by {deviation:.2g}, expected at most {side.tolerance:.2g}")


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown: how many times longer than the first outcome each takes, and its figures."""
    outcomes = list(outcomes)
    head = "| x ours | job | computes | s (slowest) | CPU s | of which | peak MB (before) | off by |"
    lines = [head, "|---" * 8 + "|"]
    for outcome in outcomes:
        ratio = outcome.seconds / outcomes[0].seconds
        slowest = max(line["seconds"] for line in outcome.lines) * outcome.scale
        cells = [
            f"{ratio:.1f}" if ratio < 20 else f"{ratio:.0f}",
            outcome.side.name + (f", from {outcome.side.frames} frames as the square" if outcome.side.frames else ""),
            outcome.side.computes,
            f"{outcome.seconds:.2f} ({slowest:.1f})",
            f"{outcome.best['cpu'] * outcome.scale:.1f}",
            ", ".join(f"{name.replace('_', ' ')} {outcome.best[name]:.2f}" for name in parts(outcome.best)),
            f"{outcome.best['peak_mb']:.0f} ({outcome.best['base_mb']:.0f})",
            ", ".join(f"{name} {value:.0e}" for name, value in outcome.lines[0]["deviation"].items()),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parts(line: dict[str, Any]) -> list[str]:
    """Names of the parts of a job that its script timed."""
    return [name for name in line if name not in _PARTS]


def heading(outcomes: Iterable[Outcome]) -> str:
    """Where, when and with what it was measured."""
    versions: dict[str, str] = {}
    for outcome in outcomes:
        versions |= outcome.best["versions"]
    threads, load = os.environ.get("BENCH_THREADS", "2"), os.getloadavg()[2]
    names = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{date.today()}, {processor()}, {os.cpu_count()} cores, {threads} threads, load {load:.1f}; {names}"


def processor() -> str:
    """Name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def about(content: photons.Photons, floors: floor.Floor, outcome: Outcome) -> str:
    """The scan, and the least time that it could take on as many threads."""
    labels = photons.rings(content).partition.dynamic_roi_map
    means = photons.ring_means(content, labels)
    decode, product = floor.c2_seconds(floors, content)
    return (
        f"{' x '.join(map(str, content.shape))} uint16, SIMULATED, {(labels > 0).sum()} valid pixels in "
        f"{content.num_q_bins} rings x {content.num_static_per_q}, {means[1]:.3g} to {means[-1]:.3g} photons/pixel "
        f"(mean {content.mean_counts:g}).\nFloor: decode {decode:.3f} s, products or pairs of C2 {product:.3f} s; "
        f"our whole job takes {outcome.seconds / (decode + product):.1f} times as long."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mean", type=float, nargs="+", default=[0.3, 0.01], help="photons a pixel and frame")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--edge", type=int, default=512, help="of the detector, pixels")
    parser.add_argument("--only", default="", help="peers whose name holds this text")
    parser.add_argument("--full", action="store_true", help="all frames by scikit-beam's two-time correlation as well")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of our config")
    options = parser.parse_args(arguments)
    if not has_peers():
        print("ours alone: the peers are not installed, see `make bench-setup`", file=sys.stderr)
    ours = replace(OURS, options=tuple(text for value in options.set for text in ("--set", value)))
    small = min(options.frames // 5, 200)
    skbeam = [scikit_beam_c2(frames) for frames in (small // 2, small, *([0] if options.full else []))]
    peers = [side for side in (*PEERS, *skbeam) if options.only in side.name] if has_peers() else []
    floors = floor.measure(int(os.environ.get("BENCH_THREADS", "2")))
    print(floor.table([floors]), end="\n\n")
    for mean in options.mean:
        content = photons.Photons(options.frames, options.edge, options.edge, mean_counts=mean)
        outcomes = compare([ours, *peers], content, options.repeats)
        print(heading(outcomes), about(content, floors, outcomes[0]), table(outcomes), sep="\n\n", end="\n\n")
    print(_NOTES)


if __name__ == "__main__":
    main()
