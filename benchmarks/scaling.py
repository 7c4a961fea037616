"""Seconds of our correlation against frames, pixels and photons, with fitted exponents.

    python -m benchmarks.scaling [--repeats 2] [--set KEY=VALUE]

Prints Markdown: for each series the seconds of the whole job and of its correlation alone, and the exponents of a power
law through all points and through the last two.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.photons import Photons
from benchmarks.sides import OURS, Side, measure, scan_of

_SMALL = Photons(height=128, width=128, num_q_bins=4)

SERIES = {
    "frames": {T: replace(_SMALL, num_frames=T) for T in (250, 500, 1000, 2000, 4000, 8000)},
    "pixels": {edge**2: Photons(height=edge, width=edge) for edge in (64, 128, 256, 512, 1024)},
    "photons a pixel and frame": {
        mean: Photons(height=256, width=256, mean_counts=mean) for mean in (0.0003, 0.003, 0.03, 0.3, 3.0)
    },
}
"""What is varied -> its value -> the scan."""

Points = dict[float, tuple[float, float]]
"""Value -> seconds of the whole job, and of correlating alone."""


def series(scans: dict[float, Photons], side: Side = OURS, repeats: int = 2) -> Points:
    """Best of a few runs of each scan."""
    points = {}
    for value, content in scans.items():
        lines = [measure(side, scan_of(content)) for _ in range(repeats)]
        points[value] = (min(line["seconds"] for line in lines), min(line["correlate"] for line in lines))
    return points


def exponent(points: Points, column: int, last: int = 0) -> float:
    """Slope of log seconds over log value, through the last few points (0: all)."""
    values = np.log(list(points))[-last:]
    seconds = np.log([row[column] for row in points.values()])[-last:]
    return float(np.polyfit(values, seconds, 1)[0])


def table(name: str, points: Points) -> str:
    """Markdown."""
    lines = [f"| {name} | whole job, s | correlate, s |", "|---|---|---|"]
    lines += [f"| {value:g} | {whole:.3f} | {part:.3f} |" for value, (whole, part) in points.items()]
    for label, last in (("exponent, all", 0), ("exponent, last two", 2)):
        lines.append(f"| {label} | {exponent(points, 0, last):.2f} | {exponent(points, 1, last):.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", default="", help="series whose name holds this text")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of our config")
    options = parser.parse_args(arguments)
    side = replace(OURS, options=tuple(text for value in options.set for text in ("--set", value)))
    for name, scans in SERIES.items():
        if options.only in name:
            first = next(iter(scans.values()))
            shape = " x ".join(map(str, first.shape))
            print(f"From {shape}, {first.num_q_bins} rings, {first.mean_counts:g} photons a pixel and frame on:\n")
            print(table(name, series(scans, side, options.repeats)), end="\n\n")


if __name__ == "__main__":
    main()
