"""The report of a scaling study: a picture, and one page that opens anywhere."""

from __future__ import annotations

import base64
import html
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ainerd_hpc.console import size_text, time_text
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.publishing import publishing, write_text
from ainerd_hpc.study.laws import Law, fit_law
from ainerd_hpc.study.measuring import Kind, Measured

_BUSY = 0.1
"""Cores that other work has, above which times say little."""
PARTS = ("waiting", "between", "idle")
"""Seconds of workers in which they do not compute, as `Measured` names them."""
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1500px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:.5em 0 1em;font-size:13px;white-space:nowrap;display:block;overflow-x:auto}
td,th{padding:.2em .6em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}img{max-width:100%}"""


_ABOUT = """<p>Time is from the first task handed out to the end of the last: the median of the runs, with the least and
the most. What a worker computes is divided as the cost model says; waiting (within tasks, for files or for a busy
processor), between tasks (scheduler, journal) and idle (before its first task and after its last) are measured. The
intervals of the laws hold 95 % of the fits to resampled runs. All runs, and what it takes to repeat them, are in
scale.jsonl.</p>"""


class Series(NamedTuple):
    """A stage over numbers of workers, of one kind."""

    stage: str
    kind: Kind
    runs: Mapping[int, Sequence[Measured]]

    @property
    def points(self) -> list[tuple[int, float]]:
        """Workers and seconds of every run; of weak scaling the seconds for the work of one worker."""
        return [
            (number, one.seconds / (number if self.kind == "weak" else 1))
            for number, ones in self.runs.items()
            for one in ones
        ]

    def speedups(self) -> dict[int, tuple[float, float, float]]:
        """Workers -> speed-up against one worker (or the fewest there are): median, least and most of the runs."""
        first = min(self.runs)
        alone = float(np.median([seconds for number, seconds in self.points if number == first])) * first
        found = {}
        for number in self.runs:
            ratios = [alone / seconds for n, seconds in self.points if n == number]
            found[number] = (float(np.median(ratios)), min(ratios), max(ratios))
        return found

    def laws(self) -> list[Law]:
        """The laws for which there are enough numbers of workers."""
        return [law for name in ("Amdahl", "USL") if (law := fit_law(name, self.points)) is not None]


def check_figures() -> None:
    """Refuse to begin what could not be drawn.

    Raises
    ------
    ConfigError
        The extra for figures is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError("scale: expected the extra `figures`, found no matplotlib; install ainerd-hpc[figures]")


def series_of(measured: Sequence[Measured]) -> list[Series]:
    """What was measured, by stage and kind."""
    found = defaultdict[tuple[str, Kind], dict[int, list[Measured]]](dict)
    for one in measured:
        found[one.stage, one.kind].setdefault(one.workers, []).append(one)
    return [Series(stage, kind, dict(sorted(runs.items()))) for (stage, kind), runs in found.items()]


def write_report(measured: Sequence[Measured], folder: Path, title: str) -> Path:
    """Write `scale.png` and `scale.html`, and give the latter."""
    series = series_of(measured)
    picture = _picture(series)
    with publishing(folder / "scale.png") as path:
        path.write_bytes(picture)
    write_text(folder / "scale.html", _page(series, picture, title))
    return folder / "scale.html"


def _picture(series: Sequence[Series]) -> bytes:
    """PNG: a row for each stage: time, speed-up with its laws, and where the time of workers goes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.2 * len(series)), layout="constrained")
    rows = figure.subplots(len(series), 3, squeeze=False)
    for one, (times, speed, parts) in zip(series, rows, strict=True):
        _draw_times(one, times)
        _draw_speedup(one, speed)
        _draw_parts(one, parts)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _draw_times(one: Series, axes: Any) -> None:
    for number, runs in one.runs.items():
        axes.plot([number] * len(runs), [run.seconds for run in runs], "o", color="C0", alpha=0.6)
    axes.plot(list(one.runs), [np.median([run.seconds for run in runs]) for runs in one.runs.values()], color="C0")
    axes.set(
        title=f"{one.stage}, {one.kind}", xlabel="workers", ylabel="time, s", ylim=(0, None), xticks=list(one.runs)
    )


def _draw_speedup(one: Series, axes: Any) -> None:
    found = one.speedups()
    numbers, middle = list(found), np.array([median for median, _, _ in found.values()])
    low, high = (np.array([bounds[place] for bounds in found.values()]) for place in (1, 2))
    axes.errorbar(numbers, middle, [middle - low, high - middle], fmt="o", color="C0", capsize=3, label="runs")
    line = np.linspace(1, max(2, *numbers), 50)
    axes.plot(line, line, ":", color="0.6", label="ideal")
    for place, law in enumerate(one.laws(), start=1):
        axes.plot(line, law.speedup(line), color=f"C{place}", label=str(law))
    axes.set(xlabel="workers", ylabel="speed-up", ylim=(0, 1.4 * line[-1]), xlim=(0, None), xticks=numbers)
    axes.legend(fontsize=7, loc="upper left")


def _draw_parts(one: Series, axes: Any) -> None:
    shares = {number: time_shares(runs) for number, runs in one.runs.items()}
    bottom = np.zeros(len(shares))
    for place, name in enumerate(next(iter(shares.values()))):
        heights = np.array([share.get(name, 0.0) for share in shares.values()])
        color = str(0.55 + 0.15 * PARTS.index(name)) if name in PARTS else f"C{place}"  # greys for what is no work
        axes.bar([str(number) for number in shares], heights, bottom=bottom, label=name, color=color)
        bottom += heights
    axes.set(xlabel="workers", ylabel="share of the workers' time", ylim=(0, 1))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def time_shares(runs: Sequence[Measured]) -> dict[str, float]:
    """Where the time of the workers went in these runs: terms of the cost model, then what is no computing."""
    seconds = dict.fromkeys((*runs[0].work, *PARTS), 0.0)
    for run in runs:
        for name, value in run.work.items():
            seconds[name] += value
        for name in PARTS:
            seconds[name] += getattr(run, name)
    total = sum(seconds.values()) or 1.0
    return {name: value / total for name, value in seconds.items()}


def _page(series: Sequence[Series], picture: bytes, title: str) -> str:
    encoded = base64.b64encode(picture).decode("ascii")
    parts = [f"<h2>{one.stage}, {one.kind} scaling</h2>{_table(one)}<p>{_law_text(one)}</p>" for one in series]
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"{_ABOUT}{_busy(series)}"
        f'<img alt="Time, speed-up and where the time goes, by stage" src="data:image/png;base64,{encoded}">'
        f"{''.join(parts)}</html>"
    )


def _busy(series: Sequence[Series]) -> str:
    """A warning where other work had the machine."""
    most = max((run.others for one in series for runs in one.runs.values() for run in runs), default=0.0)
    if most <= _BUSY:
        return ""
    return (
        f"<p><b>Other work had up to {most:.1f} cores of this machine during these runs. "
        "Times and speed-ups are not those of a free machine; CPU seconds are nearly so.</b></p>"
    )


def _law_text(one: Series) -> str:
    laws = "; ".join(map(str, one.laws()))
    return laws or "no law is fitted: that takes one worker and more numbers of workers than the law has parameters"


def _table(one: Series) -> str:
    titles = ("workers", "runs", "tasks", "time", "speed-up", "efficiency", "outside tasks", "CPU", "computing", *PARTS)
    sizes = ("read / planned", "written / planned", "peak / planned", "cores of others")
    head = "".join(f"<th>{name}</th>" for name in (*titles, *sizes))
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in _rows(one))
    return f"<table><tr>{head}</tr>{rows}</table>"


def _rows(one: Series) -> list[tuple[str, ...]]:
    found, rows = one.speedups(), []
    for number, runs in one.runs.items():
        seconds, (middle, low, high), shares = [run.seconds for run in runs], found[number], time_shares(runs)
        rest = {name: shares[name] for name in PARTS}
        rows.append(
            (
                str(number),
                str(len(runs)),
                str(runs[0].num_tasks),
                f"{time_text(float(np.median(seconds)))} ({min(seconds):.2g}-{max(seconds):.2g})",
                f"{middle:.2f} ({low:.2f}-{high:.2f})",
                f"{middle / number:.2f} ({low / number:.2f}-{high / number:.2f})",
                time_text(float(np.median([run.outside for run in runs]))),
                time_text(float(np.median([run.cpu_seconds for run in runs]))),
                f"{1 - sum(rest.values()):.0%}",
                *(f"{share:.0%}" for share in rest.values()),
                *(
                    f"{size_text(getattr(runs[0], own))} / {size_text(getattr(runs[0], planned))}"
                    for own, planned in (("bytes_read", "planned_read"), ("bytes_written", "planned_write"))
                ),
                f"{size_text(max(run.peak_bytes for run in runs))} / {size_text(runs[0].planned_peak)}",
                f"{np.median([run.others for run in runs]):.1f}",
            )
        )
    return rows
