"""How far columns (stress, temperature, a detector's name) go with the clusters of maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ainerd_hpc.kernels.relations.controls import Floats, Order, corrected

Codes = NDArray[np.int64]


class Effects(NamedTuple):
    """Sizes of effects, and p-values; NaN where there is nothing to compare.

    Those of columns are corrected for the number of columns. Those of a cluster are corrected for the number of
    clusters, and no surer than its column.
    """

    delta: Floats
    """(k, c) Cliff's delta of a column of numbers in a cluster against all else, -1..1: how much more often a value
    inside is the larger one (Cliff, Psychological Bulletin 114, 494, 1993)."""
    delta_p: Floats
    epsilon2: Floats
    """(k,) share of the variance of its ranks that the clusters explain, 0..1: H / (n - 1) of Kruskal and Wallis."""
    epsilon2_p: Floats
    cramers_v: Floats
    """(t,) association of a column of texts with the clusters, 0..1 (Cramer, 1946)."""
    cramers_v_p: Floats


@dataclass(frozen=True)
class _Block:
    """Columns that are known of the same units."""

    known: NDArray[np.bool_]
    shares: Floats
    """(known, c)."""
    values: Floats
    """(n, k): ranks about 0, or 1 where a text is this one; 0 where it is not known."""

    @classmethod
    def of(cls, known: NDArray[np.bool_], shares: Floats, values: Floats) -> _Block:
        """The block, with the shares (n, c) of all units, which are not copied where all are known."""
        return cls(known, shares if known.all() else shares[known], values)

    def products(self, order: Order) -> Floats:
        """Sums of values over the maps of each cluster, (c, k), with the values in another order."""
        used = order if len(self.shares) == len(order) else order[self.known[order]]
        found: Floats = self.shares.T @ self.values[used]
        return found


def shares(labels: Codes, units: Codes) -> Floats:
    """Share of the maps of each unit (a scan) that have each label, (n, c).

    Parameters
    ----------
    labels, units : (maps,)
        Numbers from 0 on.
    """
    n, c = units.max(initial=-1) + 1, labels.max(initial=-1) + 1
    counts = np.bincount(units * c + labels, minlength=n * c).reshape(n, c)
    found: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return found


def effects(shares: Floats, numbers: Floats, texts: Codes, orders: Iterable[Order]) -> Effects:
    """How columns go with clusters, against controls in which they are given to other units.

    A unit counts once, however many maps it has. All that is compared are sums of ranks over clusters, so a control
    costs as much as units x clusters x columns, and there is no pair of units to be looked at.

    Parameters
    ----------
    shares : (n, c)
        Share of the maps of each unit in each cluster; rows add up to 1.
    numbers : (n, k)
        NaN: not known.
    texts : (n, t)
        Number of the text; -1: not known.
    orders : iterable of (n,)
        `controls.permutations` or `controls.shifted`.
    """
    blocks = _rank_blocks(shares, numbers), _text_blocks(shares, texts)
    found = [_sizes(shares, blocks, order) for order in (np.arange(len(shares)), *orders)]
    delta, epsilon2, cramers_v = (np.stack(values) for values in zip(*found, strict=True))
    epsilon2_p, cramers_v_p = np.split(corrected(np.hstack([epsilon2, cramers_v])), [epsilon2.shape[1]])
    of_clusters = np.array([corrected(np.abs(delta[:, k])) for k in range(len(epsilon2_p))]).reshape(delta[0].shape)
    delta_p = np.maximum(of_clusters, epsilon2_p[:, None])
    return Effects(delta[0], delta_p, epsilon2[0], epsilon2_p, cramers_v[0], cramers_v_p)


def _rank_blocks(shares: Floats, numbers: Floats) -> list[tuple[NDArray[np.int64], _Block]]:
    """Columns of numbers by what is known of them, as ranks about 0: below minus above."""
    known = ~np.isnan(numbers)
    alike: dict[bytes, list[int]] = {}
    for column in range(numbers.shape[1]):
        alike.setdefault(known[:, column].tobytes(), []).append(column)
    blocks = []
    for columns in map(np.array, alike.values()):
        mask = known[:, columns[0]]
        ranks = np.zeros((len(numbers), len(columns)))
        ranks[mask] = 2 * rankdata(numbers[mask][:, columns], axis=0) - mask.sum() - 1
        blocks.append((columns, _Block.of(mask, shares, ranks)))
    return blocks


def _text_blocks(shares: Floats, texts: Codes) -> list[_Block]:
    names = (np.arange(column.max(initial=-1) + 1) for column in texts.T)
    pairs = [(column >= 0, column[:, None] == one) for column, one in zip(texts.T, names, strict=True)]
    return [_Block.of(mask, shares, is_one.astype(np.float64)) for mask, is_one in pairs]


def _sizes(
    shares: Floats, blocks: tuple[Sequence[tuple[NDArray[np.int64], _Block]], Sequence[_Block]], order: Order
) -> tuple[Floats, Floats, Floats]:
    """delta (k, c), epsilon2 (k,), V (t,) with the columns in this order."""
    ranked, named = blocks
    k = sum(len(columns) for columns, _ in ranked)
    delta, epsilon2 = np.full((k, shares.shape[1]), np.nan), np.full(k, np.nan)
    for columns, block in ranked:
        inside = block.shares.sum(axis=0)
        sums, total = block.products(order), (block.values**2).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            delta[columns] = (sums / (inside * (len(block.shares) - inside))[:, None]).T
            epsilon2[columns] = np.nansum(sums**2 / inside[:, None], axis=0) / total
    delta[~np.isfinite(delta)] = np.nan
    return delta, epsilon2, np.array([_cramers_v(block, order) for block in named])


def _cramers_v(block: _Block, order: Order) -> float:
    table = block.products(order)
    table = table[table.sum(axis=1) > 0]
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(len(block.shares), 1)
    degrees = min(table.shape) - 1
    if degrees < 1:
        return float("nan")
    return float(np.sqrt(np.sum((table - expected) ** 2 / expected) / len(block.shares) / degrees))
