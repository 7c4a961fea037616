"""How labels follow each other in time, and how those of the q-bins of a scan go together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ainerd_hpc.kernels.relations.controls import Floats, corrected, permutations, shifts

Labels = NDArray[np.int64]
UNKNOWN = -2
"""Label where a q-bin has no map at that time."""


class Succession(NamedTuple):
    """How the labels of each sequence (q-bin) follow each other, (s,) each."""

    pairs: NDArray[np.int64]
    """Times followed by another one, with a label at both."""
    changes: NDArray[np.int64]
    """How many of them have two labels."""
    dwell: Floats
    """Median time that a label stays, s; those at both ends are counted as long as they are seen."""
    entropy: Floats
    """Uncertainty of the next label where this one is known, bits."""
    entropy_shuffled: Floats
    """The same with the times in random order, mean."""
    p_value: Floats
    """Chance of an entropy so low, corrected for all sequences."""


def changed(labels: Labels) -> NDArray[np.bool_]:
    """Whether the label of each sequence (n, s) changes from one time to the next, (n - 1, s)."""
    before, after = labels[:-1], labels[1:]
    found: NDArray[np.bool_] = (before != after) & (before != UNKNOWN) & (after != UNKNOWN)
    return found


def counts(before: Labels, after: Labels, num_labels: int) -> NDArray[np.int64]:
    """How often each label (from -1 on) is followed by each, (num_labels, num_labels)."""
    known = (before != UNKNOWN) & (after != UNKNOWN)
    pairs = (before[known] + 1) * num_labels + after[known] + 1
    return np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)


def entropy(table: NDArray[np.int64]) -> float:
    """Conditional entropy of the second label, bits, of counts (c, c); NaN without any."""
    total = table.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        bits = -table * np.log2(table / table.sum(axis=1, keepdims=True))
    return float(np.nansum(bits) / total) if total else float("nan")


def succession(labels: Labels, time: Floats) -> Succession:
    """How labels follow each other, against times in random order: whole times, so that q-bins stay together.

    Parameters
    ----------
    labels : (n, s)
        From -1 on; `UNKNOWN` where there is none.
    time : (n,)
        s, rising.
    """
    num_labels = int(labels.max(initial=-1)) + 2
    mixed = [_entropies(labels[one], num_labels) for one in permutations(len(labels))]
    bits = np.stack([_entropies(labels, num_labels), *mixed])
    known = (labels[:-1] != UNKNOWN) & (labels[1:] != UNKNOWN)
    dwell = np.array([_dwell(column, time) for column in labels.T])
    return Succession(known.sum(0), changed(labels).sum(0), dwell, bits[0], bits[1:].mean(axis=0), corrected(-bits))


def _entropies(labels: Labels, num_labels: int) -> Floats:
    return np.array([entropy(counts(column[:-1], column[1:], num_labels)) for column in labels.T])


def _dwell(labels: Labels, time: Floats) -> float:
    """Median time from where a label comes to where the next one does."""
    time, labels = time[labels != UNKNOWN], labels[labels != UNKNOWN]
    if not len(labels):
        return float("nan")
    starts = np.append(0, np.flatnonzero(np.diff(labels)) + 1)
    return float(np.median(np.diff(np.append(time[starts], time[-1]))))


def together(labels: Labels) -> tuple[Floats, Floats]:
    """Share of the times at which each sequence (n, s) has the label of the next one, and its p-value, (s - 1,) each.

    The controls have the next one shifted in time; p-values are corrected for all sequences.
    """
    one, other = labels[:, :-1], labels[:, 1:]
    same = [_same(one, np.roll(other, by, axis=0)) for by in (0, *shifts(len(labels)))]
    return same[0], corrected(np.stack(same))


def _same(one: Labels, other: Labels) -> Floats:
    known = (one != UNKNOWN) & (other != UNKNOWN)
    with np.errstate(invalid="ignore"):
        share: Floats = ((one == other) & known).sum(axis=0) / known.sum(axis=0)
    return share
