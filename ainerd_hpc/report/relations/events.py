"""Sudden steps of the sample log, and whether labels or speed change where they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.kernels.relations import controls, transitions
from ainerd_hpc.kernels.relations.events import Steps, at_shifts, far_from_change, level_shifts, sudden_steps
from ainerd_hpc.report.relations.columns import SHIFTED, Row
from ainerd_hpc.report.relations.maps import ALPHA, Sequences

_EPOCH = 1e8
"""Times above it are s of the UTC epoch, and are told as dates."""
_MOST = 1000
"""Sudden steps of a column that are looked at: the largest."""


class Step(NamedTuple):
    """A sudden step of a column of the log, and what changes then."""

    column: str
    time: float
    """Its middle, s."""
    size: float
    changed: float
    """Share of the q-bins whose label changes between the windows on either side."""
    lag: float
    """Windows to the nearest change of a q-bin's label, mean over the q-bins."""
    p_lag: float
    p_lag_corrected: float
    """Corrected for the steps of its column."""
    speed: float
    """Ratio of the half decays of three windows after and three before, the larger over the smaller."""
    p_speed: float
    p_speed_corrected: float
    words: str = ""


class Aligned(NamedTuple):
    """Sudden steps with what changes there, and a row of `columns.Row` for each column that has some."""

    steps: pd.DataFrame
    columns: pd.DataFrame


class _Changes(NamedTuple):
    """What changes from each moment to the next, (n - 1,) each."""

    share: NDArray[np.float64]
    """Share of the q-bins whose label changes."""
    lag: NDArray[np.float64]
    """Moments to the nearest change of a q-bin's label, mean over the q-bins."""
    log_speed: NDArray[np.float64]
    """|ln| of the ratio of half decays, of three moments after and three before, medians over the q-bins; 0 where none
    is known."""


def events(seen: Sequences, log: pd.DataFrame) -> Aligned:
    """The sudden steps of each column of a log, against changes that are shifted in time.

    p-values of single steps are corrected for the steps of their column, that of all steps of a column for the columns.
    """
    found = {name: _inside(seen, log, name) for name in map(str, log) if name != "time"}
    found = {name: (steps, place) for name, (steps, place) in found.items() if len(place)}
    if not found:
        return Aligned(pd.DataFrame(columns=Step._fields), pd.DataFrame(columns=Row._fields))
    changes = _changes(seen)
    lags = np.stack([at_shifts(-changes.lag, place).mean(axis=1) for _, place in found.values()], axis=1)
    rows = [
        _of_column(name, len(found[name][1]), lag, float(changes.lag.mean()), p, len(seen.time))
        for name, lag, p in zip(found, -lags[0], controls.corrected(lags), strict=True)
        if np.isfinite(p)
    ]
    steps = [step for name, (steps, place) in found.items() for step in _aligned(name, steps, place, changes)]
    return Aligned(pd.DataFrame(steps, columns=Step._fields), pd.DataFrame(rows, columns=Row._fields))


def _changes(seen: Sequences) -> _Changes:
    changed = transitions.changed(seen.labels)
    known = np.asarray(np.isfinite(seen.log_decay).any(axis=1))
    level = np.full(len(known), np.nan)
    level[known] = np.nanmedian(np.where(np.isfinite(seen.log_decay), seen.log_decay, np.nan)[known], axis=1)
    return _Changes(changed.mean(axis=1), far_from_change(changed), np.abs(level_shifts(level)))


def _inside(seen: Sequences, log: pd.DataFrame, name: str) -> tuple[Steps, NDArray[np.int64]]:
    """The largest sudden steps of a column, and between which moments each of them is."""
    steps = sudden_steps(log["time"].to_numpy(np.float64), log[name].to_numpy(np.float64))
    place = np.searchsorted(seen.time, steps.time) - 1
    inside = np.flatnonzero((place >= 0) & (place < len(seen.time) - 1))
    taken = np.sort(inside[np.argsort(-np.abs(steps.size[inside]), kind="stable")[:_MOST]])
    return Steps(*(values[taken] for values in steps)), place[taken]


def _of_column(name: str, num: int, lag: float, usual: float, p: float, num_moments: int) -> Row:
    text = f"{name}: its {num} sudden steps are {lag:.2g} windows from a change of labels, {usual:.2g} is usual"
    words = f"{text} (p {p:.2g} of {num_moments} windows)" + ("; nothing sure" if p > ALPHA else "")
    return Row(name, None, "windows from a change", lag - usual, p, SHIFTED, num_moments, p, words)


def _aligned(name: str, steps: Steps, place: NDArray[np.int64], changes: _Changes) -> list[Step]:
    lag, speed = at_shifts(-changes.lag, place), at_shifts(changes.log_speed, place)
    of_lag = changes.share[place], changes.lag[place], _alone(lag), controls.corrected(lag)
    of_speed = np.exp(changes.log_speed[place]), _alone(speed), controls.corrected(speed)
    rows = zip(steps.time, steps.size, *of_lag, *of_speed, strict=True)
    found = [Step._make((name, *map(float, row), "")) for row in rows]
    return [step._replace(words=_in_words(step)) for step in found]


def _alone(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values of each without any correction."""
    share: NDArray[np.float64] = np.mean(statistics >= statistics[0], axis=0)
    return share


def _in_words(step: Step) -> str:
    """What a sudden step goes with, and no more."""
    when = pd.Timestamp(step.time, unit="s").isoformat(" ", "seconds") if step.time > _EPOCH else f"{step.time:.6g} s"
    said = f"{step.column}: {'rise' if step.size > 0 else 'drop'} of {abs(step.size):.3g} at {when}: "
    changes = {
        f"labels of {step.changed:.0%} of the q-bins change then": (step.p_lag, step.p_lag_corrected),
        f"half decay changes {step.speed:.2g}x then": (step.p_speed, step.p_speed_corrected),
    }
    if sure := [f"{text} (p {p:.2g})" for text, (_, p) in changes.items() if p <= ALPHA]:
        return said + ", ".join(sure)
    unsure = [f"{text} (p {alone:.2g} alone, {p:.2g} among all)" for text, (alone, p) in changes.items()]
    return f"{said}nothing sure; {', '.join(unsure)}"
