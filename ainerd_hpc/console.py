"""What a person sees: tables, progress, one screen of summary."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ainerd_hpc.types import Plan, Problem, StageReport, StageStatus

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
_KINDS_SHOWN = 5
_SCREEN = 100
"""Columns of a terminal on which the end of a run fits: it has 24 lines then, whatever the number of scans."""
_ELLIPSIS = "\u2026"


def size_text(num_bytes: float) -> str:
    """`3.2 GB`, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000 or unit == "TB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "B" or num_bytes >= 100 else f"{num_bytes:.1f} {unit}"


def time_text(seconds: float) -> str:
    """`3.2 min`: seconds, minutes, hours or days."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def print_plans(plans: Sequence[Plan], allowed: Sequence[int]) -> None:
    """The plan: tasks, bytes, projected peak memory and predicted time of every stage; and of all."""
    columns = ("done", "to do", "quarantined", "read", "write <=", "peak <=", "allowed", "task time", "core-hours")
    table = _table("Plan", "stage", "shape", *columns)
    for plan, memory in zip(plans, allowed, strict=True):
        num_todo, num_bad = len(plan.tasks), len(plan.quarantined)
        counts = (str(plan.num_done), str(num_todo), str(num_bad))
        sizes = tuple(size_text(number) for number in (plan.read_bytes, plan.write_bytes, plan.peak_bytes, memory))
        table.add_row(plan.stage, plan.shape.value, *counts, *(sizes if num_todo else ("-",) * 4), *_time_texts([plan]))
    sums = size_text(sum(plan.read_bytes for plan in plans)), size_text(sum(plan.write_bytes for plan in plans))
    table.add_row("all", "", "", str(sum(len(plan.tasks) for plan in plans)), "", *sums, "", "", *_time_texts(plans))
    console.print(table)


def _time_texts(plans: Sequence[Plan]) -> tuple[str, str]:
    """Predicted time of the tasks of these plans one after the other, and their core-hours."""
    seconds, core_hours = sum(plan.seconds for plan in plans), sum(plan.core_hours for plan in plans)
    return (time_text(seconds), f"{core_hours:.2g}") if seconds else ("-", "-")


def print_predictions(reports: Iterable[StageReport]) -> None:
    """One line: how far off the last predictions were, by stage; none where there is nothing to compare."""
    ratios = [f"{report.stage} {report.off_by:.2g}" for report in reports if report.predicted_seconds]
    if ratios:
        console.print(f"tasks of the last runs took, of the predicted time: {', '.join(ratios)}")


def print_status(plans: Sequence[Plan], last_run: str, stage_statuses: Sequence[StageStatus] = ()) -> None:
    """Print where the archive stands; with the jobs of each stage, where it was submitted to a batch system."""
    of_jobs = ("jobs", "rate", "left") * bool(stage_statuses)
    table = _table("Status", "stage", "done", "to do", "quarantined", "state", *of_jobs)
    for plan, status in zip(plans, stage_statuses or [StageStatus()] * len(plans), strict=True):
        num_todo, num_bad = len(plan.tasks), len(plan.quarantined)
        state = status.state or ("to do" if num_todo else "done, some quarantined" if num_bad else "done")
        more = (status.jobs, status.rate, status.left) * bool(stage_statuses)
        table.add_row(plan.stage, str(plan.num_done), str(num_todo), str(num_bad), state, *more)
    console.print(table)
    console.print(f"last run: {last_run}")


def print_summary(reports: Sequence[StageReport], problems: Sequence[Problem]) -> None:
    """What a run did, stage by stage, and what is in quarantine: one screen."""
    table = _table(
        "Summary", "stage", "made", "kept", "quarantined", "seconds", "of tasks", "predicted", "written", "figures"
    )
    table.columns[-1].no_wrap = False  # so that this one is cut where the screen is full
    for report in reports:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in report.figures.items())
        counts = (str(report.num_done), str(report.num_kept), str(report.num_quarantined))
        times = f"{report.task_seconds:.1f}", f"{report.predicted_seconds:.1f}" if report.predicted_seconds else "-"
        sizes = (f"{report.seconds:.1f}", *times, size_text(report.bytes_written))
        table.add_row(report.stage, *counts, *sizes, Text(figures, no_wrap=True, overflow="ellipsis"))
    console.print(table, width=_SCREEN)
    for report in reports:
        for remark in report.remarks:
            console.print(f"{report.stage}: {remark}", style="yellow", markup=False)
    print_problems(problems)


def print_problems(problems: Sequence[Problem]) -> None:
    """A line for each kind of problem, the most frequent first: the first of it, and how many more there are."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.stage, _kind(problem)), []).append(problem)
    for alike in sorted(kinds.values(), key=len, reverse=True)[:_KINDS_SHOWN]:
        more = f" (and {len(alike) - 1} more like this)" if len(alike) > 1 else ""
        text = _short(f"quarantined in {alike[0].stage}: {alike[0].reason}", 2 * _SCREEN - len(more))
        console.print(text + more, style="yellow", markup=False)
    if len(kinds) > _KINDS_SHOWN:
        rest = len(problems) - sum(sorted(map(len, kinds.values()), reverse=True)[:_KINDS_SHOWN])
        console.print(f"... and {rest} more, of {len(kinds) - _KINDS_SHOWN} other kinds", style="yellow")


def _kind(problem: Problem) -> str:
    """Its reason without what differs from scan to scan: names, paths, numbers."""
    return re.sub(r"\S*[\d/]\S*", "", problem.reason.replace(problem.scan_id, ""))


def _short(text: str, length: int) -> str:
    """The text without the folders of its paths, then without its middle, where there is no room for all of it."""
    if len(text) > length:
        text = re.sub(r"[^\s'\"]*/(?=[^/\s])", f"{_ELLIPSIS}/", text)
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return text[: length - 1 - half] + _ELLIPSIS + text[-half:]


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table of anything, its first column to the left."""
    table = _table(title, *columns)
    for row in rows:
        table.add_row(*(escape(f"{value:.6g}" if isinstance(value, float) else str(value)) for value in row))
    console.print(table)


def tell(line: str) -> None:
    """One line of a worker about a long task, beside the progress of the whole."""
    console.print(line, markup=False)


_EVERY = 60.0
"""Seconds between the lines that stand for a live one where there is no terminal."""


@contextlib.contextmanager
def live_line() -> Iterator[Callable[[str], None]]:
    """A line that is always current, for work without an end: on a terminal the last line, elsewhere one a minute."""
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(escape(text))
        return
    told = -_EVERY

    def show(text: str) -> None:
        nonlocal told
        if time.monotonic() - told >= _EVERY:
            told = time.monotonic()
            console.print(text, markup=False)

    yield show


def rate_text(per_second: float) -> str:
    """`2.5/s`, `12/min`, `3/h`."""
    unit, seconds = ("s", 1) if per_second >= 1 else ("min", 60) if per_second >= 1 / 60 else ("h", 3600)
    return f"{per_second * seconds:.2g}/{unit}"


class Step(NamedTuple):
    """A task that is done."""

    key: str
    seconds: float
    predicted: float
    """Seconds that were expected of it; 0 where nothing was."""


class Advance(Protocol):
    """Tells that a step is done, with a note; with `by` 0 only the note."""

    def __call__(self, note: str, by: int = 1, step: Step | None = None) -> None: ...


_SLOW, _LEAST = 3.0, 1.0
"""A task is slow that takes so many times the mean, and so many seconds."""


class Pace:
    """How fast steps are done, what that leaves, and which of them was slow.

    Parameters
    ----------
    total : int
        Steps.
    predicted : float
        Seconds that are expected of all steps together; with them a long step counts as more than a short one.
    workers : int
        Processes that do them; 0 where that is not known.
    """

    def __init__(self, total: int, predicted: float = 0.0, workers: int = 0) -> None:
        self.total, self.done, self._predicted, self._workers = total, 0, predicted, workers
        self._began, self._share, self._sum, self._slowest = time.monotonic(), 0.0, 0.0, Step("", 0.0, 0.0)

    def add(self, by: int, step: Step | None) -> None:
        """So many steps are done."""
        self.done += by
        if step:
            if self.done == by:  # workers may have taken a while to be there
                self._began = max(self._began, time.monotonic() - step.seconds)
            self._sum += step.seconds
            self._slowest = max(self._slowest, step, key=lambda one: one.seconds)
        self._share += step.predicted / self._predicted if step and self._predicted else by / max(1, self.total)

    def __str__(self) -> str:
        """Empty as long as nothing is done."""
        if not self.done:
            return ""
        passed, share = max(time.monotonic() - self._began, 1e-3), min(max(self._share, 1e-9), 1.0)
        words = [rate_text(self.done / passed)]
        if self.done < self.total:
            words.append(f"{time_text(passed * (1 - share) / share)} left")
            words += [f"{self._workers} workers"] * (self._workers > 1)
        mean = self._sum / self.done
        if self._slowest.seconds > max(_LEAST, _SLOW * mean):
            slow = f"{self._slowest.key} {time_text(self._slowest.seconds)}, mean {time_text(mean)}"
            words.append(f"slowest {slow}")
        return ", ".join(words)


@contextlib.contextmanager
def progress(title: str, pace: Pace, is_paced: bool = True) -> Iterator[Advance]:
    """One live line on a terminal, elsewhere a line a minute and one at the end; call the result once a step.

    Parameters
    ----------
    title : str
    pace : Pace
    is_paced : bool
        Whether it is told; else notes alone tell how fast it goes.
    """
    last = ""

    def words() -> str:
        return "; ".join(filter(None, (str(pace) if is_paced else "", last)))

    def advance(note: str, by: int = 1, step: Step | None = None) -> None:
        nonlocal last
        last = note or last
        pace.add(by, step)

    with (_live if console.is_terminal else _lines)(title, pace, words):
        yield advance


@contextlib.contextmanager
def _live(title: str, pace: Pace, words: Callable[[], str]) -> Iterator[None]:
    text = TextColumn("{task.fields[note]}", markup=False)
    columns = TextColumn("{task.description:10}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), text
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=pace.total, note="")

        def show() -> None:
            bar.update(task, completed=pace.done, note=words())

        with _every_and_at_the_end(0.25, show):
            yield


@contextlib.contextmanager
def _lines(title: str, pace: Pace, words: Callable[[], str]) -> Iterator[None]:
    def tell_all() -> None:
        tell(f"{title}: {', '.join(filter(None, (f'{pace.done} of {pace.total}', words())))}")

    with _every_and_at_the_end(_EVERY, tell_all):
        yield


@contextlib.contextmanager
def _every_and_at_the_end(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    try:
        with every(seconds, act):
            yield
    finally:
        act()


@contextlib.contextmanager
def every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Act every so many seconds while the block lasts, whatever it waits for."""
    is_over = threading.Event()

    def loop() -> None:
        while not is_over.wait(seconds):
            act()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
