"""All benchmarks in one go: dated figures of this machine, held against those of the last time.

    python -m benchmarks.suite [--full] [--only NAME ...] [--results benchmarks/results]

Each benchmark runs twice, in rounds, so that what drifts meets all of them. Every number of its tables is kept in
`<results>/<machine>/<date>.json` with both of its values: how far apart they are is the noise of that figure. Against
the last file of the same machine a figure is flagged that has changed by more than three times the noise of both, and
by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ainerd_hpc.site.calibration import costs_path
from ainerd_hpc.versions import versions

BENCHMARKS: Mapping[str, tuple[str | None, str]] = {
    "decoding": ("", ""),
    "archive_form": ("--frames 200", ""),
    "scaling": ("--repeats 1 --set ingest.form=none --only pixels", "--set ingest.form=none"),
    "throughput": ("--scans 40", ""),
    "predictions": ("--sizes quickstart", ""),
    "asking": ("--maps 100000", ""),
    "catalog": ("--files 2000", ""),
    "correlation": (None, "--set ingest.form=none"),
    "clusters": (None, "--maps 100000 300000"),
    "dynamics": (None, ""),
    "page": (None, ""),
}
"""Module -> its arguments in the quick suite, and in the full one; None: it needs peers, a browser, or many minutes."""
_ROUNDS = 2
_LEAST = 0.1
_NOISES = 3.0
Figures = dict[str, list[float]]
"""Name of a figure -> its value in each round."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, keep and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all of them, at full size")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    options = parser.parse_args(arguments)
    words = {name: BENCHMARKS[name][options.full] for name in options.only}
    wanted = {name: text.split() for name, text in words.items() if text is not None}
    suite = "full" if options.full else "quick"
    folder = options.results / costs_path().stem.removeprefix("costs-")
    before = last_figures(folder, suite)
    figures = run_all(wanted)
    print(f"kept in {keep(folder, suite, wanted, figures)}")
    for line in changes(before, figures):
        print(line)


def run_all(wanted: Mapping[str, Sequence[str]]) -> Figures:
    """The figures of all benchmarks, in rounds; each in a process of its own."""
    found: Figures = {}
    for number in range(_ROUNDS):
        for name, words in wanted.items():
            began = time.perf_counter()
            text = _output(name, words)
            print(text)
            print(f"{name}, round {number + 1}: {time.perf_counter() - began:.0f} s\n", flush=True)
            for figure, value in figures_in(text).items():
                found.setdefault(f"{name}: {figure}", []).append(value)
    return found


def _output(name: str, words: Sequence[str]) -> str:
    """What a benchmark prints."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def figures_in(text: str) -> dict[str, float]:
    """Every number in the Markdown tables of a text, named by its row and column, and of lines `name: number unit`; of
    those with one name, the second is `name (2)`."""
    found, times = dict[str, float](), Counter[str]()
    for name, value in _named(text):
        times[name] += 1
        found[f"{name} ({times[name]})" if times[name] > 1 else name] = value
    return found


def _named(text: str) -> Iterator[tuple[str, float]]:
    titles: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip(" *") for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            titles = []
            if match := re.match(r"(.+): ([\d.]+(?:e[+-]?\d+)?) \S+$", line):
                yield match[1], float(match[2])
        elif not titles:
            titles = cells
        else:
            values = [_number(cell) for cell in cells]
            row = (
                " ".join(cell for cell, value in zip(cells, values, strict=True) if cell and value is None) or cells[0]
            )
            yield from (
                (f"{row} / {title}", value) for title, value in zip(titles, values, strict=False) if value is not None
            )


def _number(cell: str) -> float | None:
    try:
        value = float(cell.rstrip("%"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def keep(folder: Path, suite: str, wanted: Mapping[str, Sequence[str]], figures: Figures) -> Path:
    """Write the dated file of a suite."""
    now = datetime.now(UTC)
    path = folder / f"{now:%Y-%m-%dT%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"host": platform.node(), "versions": versions(), "date": now.isoformat(timespec="seconds")}
    commands = {name: list(words) for name, words in wanted.items()}
    content = {"suite": suite, **facts, "arguments": commands, "figures": figures}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def last_figures(folder: Path, suite: str) -> Figures:
    """Those of the newest file of this suite; none where there is no such file."""
    for path in sorted(folder.glob("*.json"), reverse=True):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["suite"] == suite:
            return dict(content["figures"])
    return {}


def changes(before: Figures, now: Figures) -> Iterator[str]:
    """A line for each figure that has changed beyond the noise of both runs."""
    for name in now.keys() & before.keys():
        old, new = (sum(values) / len(values) for values in (before[name], now[name]))
        noise = _NOISES * max(_spread(before[name]), _spread(now[name]))
        if old > 0 and new > 0 and abs(math.log(new / old)) > max(math.log1p(_LEAST), noise):
            yield f"CHANGED {name}: {old:.4g} -> {new:.4g}, {new / old - 1:+.0%} (noise {noise / _NOISES:.0%})"


def _spread(values: Sequence[float]) -> float:
    """How far the values of the rounds are apart, relative."""
    return math.log(max(values) / min(values)) if min(values) > 0 else math.inf


if __name__ == "__main__":
    main()
