"""Which maps of a large archive are drawn, have a thumbnail, are there at full size.

Some of every cluster and q-bin, the rare ones and the most novel first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_NOVEL_SHARE = 10
"""One in so many of the maps that are drawn is there for its novelty alone."""
_EVEN_SHARE = 2
"""One in so many of the others is shared out evenly among the groups, so that small ones are whole."""


class Shown(NamedTuple):
    """What of an archive is on its page."""

    pictured: Integers
    """(n,) ascending: rows that have a thumbnail and all of their figures."""
    others: Integers
    """(k,) ascending: rows that are points only."""
    detailed: Integers
    """Ascending: those of `pictured` that are there at full size."""
    stands_for: Integers
    """(n + k,) maps that each of `pictured`, then of `others`, stands for."""
    text: str
    """What was left out; empty where nothing was."""


def choose(table: pd.DataFrame, points: int, thumbnails: int, details: int, first: Sequence[int] = ()) -> Shown:
    """What of a table of maps is drawn, what of that has a thumbnail, and what of that is there at full size.

    Parameters
    ----------
    table : DataFrame
        A row a map: label, q_bin, novelty, time.
    points, thumbnails, details : int
        The most of each.
    first : sequence of int
        Rows that come before all others, as far as there is room.
    """
    drawn = thin(table, points, first)
    pictured = _thin_within(table, drawn.rows, thumbnails, first, "have a thumbnail and all of their figures")
    detailed = _thin_within(table, pictured.rows, details, first)
    is_pictured = np.isin(drawn.rows, pictured.rows)
    stands_for = np.concatenate([drawn.stands_for[is_pictured], drawn.stands_for[~is_pictured]])
    text = " ".join(filter(None, [drawn.text, pictured.text]))
    if text:
        text += " Numbers of maps are those of all maps."
    return Shown(pictured.rows, drawn.rows[~is_pictured], detailed.rows, stands_for, text)


def _thin_within(
    table: pd.DataFrame, rows: Integers, most: int, first: Sequence[int], what: str = "are shown"
) -> Thinned:
    """`thin` among these rows alone."""
    place = np.searchsorted(rows, np.asarray(first, dtype=np.int64)).clip(max=max(0, len(rows) - 1))
    inside = [int(at) for at, row in zip(place, first, strict=True) if rows[at] == row] if len(rows) else []
    part = thin(table[["label", "q_bin", "novelty", "time"]].iloc[rows], most, inside, what)
    return part._replace(rows=rows[part.rows])


class Thinned(NamedTuple):
    """Maps that are shown, and how many each stands for."""

    rows: Integers
    """(n,) ascending."""
    stands_for: Integers
    """(n,) maps: itself, and those of its cluster that are left out and nearest to it in time."""
    text: str
    """What was left out, in a sentence; empty where nothing was."""


def thin(table: pd.DataFrame, most: int, first: Sequence[int] = (), what: str = "are drawn") -> Thinned:
    """Choose at most so many rows of the table of maps; the same table gives the same rows.

    A group is one q-bin of one cluster. In this order: `first`; a tenth for the most novel maps of all; half of what is
    left evenly among the groups, of which those with fewer maps are taken whole; the rest in proportion to what the
    groups have. Within a group, maps are taken at even steps of novelty.

    Parameters
    ----------
    table : DataFrame
        A row a map: label, q_bin, novelty, time.
    most : int
    first : sequence of int
        Rows that are drawn in any case, as far as there is room.
    what : str
        What is said of the rows.
    """
    num = len(table)
    if num <= most:
        return Thinned(np.arange(num), np.ones(num, dtype=np.int64), "")
    novelty, labels = table["novelty"].to_numpy(np.float64), table["label"].to_numpy(np.int64)
    chosen = np.zeros(num, dtype=bool)
    chosen[np.asarray(first[:most], dtype=np.int64)] = True
    most_novel = np.argsort(-np.nan_to_num(novelty, nan=-np.inf), kind="stable")
    chosen[most_novel[: min(most // _NOVEL_SHARE, most - int(chosen.sum()))]] = True
    group, sizes = _groups(labels, table["q_bin"].to_numpy(np.int64))
    left = np.bincount(group[~chosen], minlength=len(sizes))
    room = most - int(chosen.sum())
    even = _even(left, room // _EVEN_SHARE)
    quota = even + _proportional(left - even, room - int(even.sum()))
    chosen[_spread(np.flatnonzero(~chosen), group, novelty, quota)] = True
    rows = np.flatnonzero(chosen)
    stands_for = _stands_for(rows, labels, table["time"].to_numpy(np.float64))
    return Thinned(rows, stands_for, _text(rows, group, sizes, most // _NOVEL_SHARE, what))


def _groups(labels: Integers, q_bins: Integers) -> tuple[Integers, Integers]:
    """Number of the group of every map, and the size of every group."""
    (_, label), (bins, q_bin) = (np.unique(one, return_inverse=True) for one in (labels, q_bins))
    _, group, sizes = np.unique(label * len(bins) + q_bin, return_inverse=True, return_counts=True)
    return group, sizes


def _even(sizes: Integers, room: int) -> Integers:
    """The same number of each group, and all of those that have no more."""
    ascending = np.sort(sizes)
    before = np.append(0, np.cumsum(ascending)[:-1])
    level = (room - before) // np.arange(len(sizes), 0, -1)  # for all others, where the smaller ones are whole
    short = np.flatnonzero(ascending > level)
    return np.asarray(np.minimum(sizes, max(0, level[short[0]]) if len(short) else sizes.max(initial=0)))


def _proportional(sizes: Integers, room: int) -> Integers:
    """So many in all, each group by its size: the fractions go to those that are largest."""
    share = sizes * min(1.0, room / max(1, sizes.sum()))
    quota = share.astype(np.int64)
    rest = max(0, min(room, int(sizes.sum())) - int(quota.sum()))
    quota[np.argsort(quota - share, kind="stable")[:rest]] += 1
    return np.asarray(np.minimum(quota, sizes))


def _spread(rows: Integers, group: Integers, novelty: NDArray[np.float64], quota: Integers) -> Integers:
    """The quota of each group out of these rows, at even steps of novelty."""
    order = rows[np.lexsort((novelty[rows], group[rows]))]
    sizes = np.bincount(group[rows], minlength=len(quota))
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    size, wanted = np.repeat(sizes, sizes), np.repeat(quota, sizes)
    is_step = (place + 1) * wanted // size > place * wanted // size
    return np.asarray(order[is_step])


def _stands_for(rows: Integers, labels: Integers, time: NDArray[np.float64]) -> Integers:
    """How many maps are nearest to each of the rows, by rank in time within their cluster; a cluster without any of the
    rows counts for none."""
    order = np.lexsort((time, labels))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    shown = np.sort(place[rows])
    after = np.searchsorted(shown, np.arange(len(order))).clip(max=len(shown) - 1)
    before = (after - 1).clip(min=0)
    label, of_before, of_after = labels[order], labels[order[shown[before]]], labels[order[shown[after]]]
    is_nearer = np.arange(len(order)) - shown[before] < shown[after] - np.arange(len(order))
    nearest = np.where((of_after != label) | (is_nearer & (of_before == label)), before, after)
    counted = np.bincount(nearest[labels[order[shown[nearest]]] == label], minlength=len(shown))
    return counted[np.searchsorted(shown, place[rows])]


def _text(rows: Integers, group: Integers, sizes: Integers, num_novel: int, what: str) -> str:
    shares = np.bincount(group[rows], minlength=len(sizes)) / sizes
    return (
        f"{len(rows):,} of {len(group):,} maps {what}: the {num_novel:,} most novel, and of each q-bin of a cluster "
        f"a share at even steps of novelty, from {shares.min():.2g} to {shares.max():.2g}; of {np.sum(shares == 1)} of "
        f"{len(sizes)} it is all."
    )
