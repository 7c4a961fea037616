"""The correlation of one q-bin: from its counts to C2, g2 and the intensities, by the kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ainerd_hpc.config import CorrelateConfig
from ainerd_hpc.correlation.tiles import Tiles
from ainerd_hpc.kernels import diagonals, lags, multitau, twotime
from ainerd_hpc.kernels.counts import Counts
from ainerd_hpc.kernels.gather import pixel_sums


@dataclass(frozen=True, slots=True)
class Block:
    """Some pixels of a q-bin, or all of them; pixels of one static bin lie side by side."""

    counts: Counts
    static_labels: np.ndarray
    """(p,)"""


class Piece(NamedTuple):
    """Counts of the static bins of a block, or of a whole q-bin."""

    labels: np.ndarray
    """(s,)"""
    sizes: np.ndarray
    """(s,) pixels."""
    sums: np.ndarray
    """(s, t)"""


@dataclass(frozen=True, slots=True, eq=False)
class QBin:
    """What comes of a q-bin besides C2 itself."""

    methods: frozenset[str]
    """How the products were made: int8, float64, pairs."""
    static: Piece
    """Counts of its static bins."""
    pixel_sums: np.ndarray
    """(p,) counts of each pixel in the valid frames."""
    multitau: tuple[np.ndarray, np.ndarray]
    """g2 and its error, (lag,)."""
    full: tuple[np.ndarray, np.ndarray]
    """g2 from C2 and its error, (1, t - 1)."""
    windows: tuple[np.ndarray, np.ndarray]
    """The same in windows of age, (window, lag)."""
    c2_scale: np.ndarray
    """(t,) what turns the stored sums into C2: sums x scale(t1) x scale(t2)."""


@dataclass(frozen=True, slots=True)
class Correlator:
    """The options of correlation, as they apply to one scan."""

    config: CorrelateConfig
    tiles: Tiles
    valid: np.ndarray
    """(t,) False for bad frames."""
    frame_scale: np.ndarray | None
    """(t,) what every frame is multiplied with before the multi-tau g2; None: nothing."""
    device: str

    def run(self, pieces: Sequence[Piece], blocks: Iterable[Block], store: Callable[[int, np.ndarray], None]) -> QBin:
        """Correlate a q-bin that comes in one or several blocks; `store` takes the sums of products by rows of
        tiles.

        The pieces are the sums of the same blocks: the intensity of all of them comes first.
        """
        config, smoothed = self.config, self.config.normalisation == "static"
        whole = joined(pieces)
        bounds = np.append(0, np.cumsum(whole.sizes))
        scale = twotime.normalisation(whole.sums, bounds, smoothed, self.valid).scale
        scale[~(scale > 0)] = np.nan  # of frames in which the dark was more than the counts
        lag, level = lags.delays(len(self.valid), config.lag_scheme, config.delays_per_level)
        options: dict[str, Any] = {"static_bins": whole.labels, "valid": self.valid, "scale": self.frame_scale}
        strips: Iterator[np.ndarray] | None = None
        moments, totals, methods = None, [], set()
        for block, piece in zip(blocks, pieces, strict=True):
            norm = twotime.normalisation(piece.sums, bounds_of(block.static_labels), smoothed)
            more = twotime.product_strips(block.counts, norm, self.tiles.edge, self.tiles.reach, self.device)
            strips = more if len(pieces) == 1 else _added(strips, more)
            one = multitau.sums(block.counts, block.static_labels, lag, level, **options)
            moments = one if moments is None else multitau.add(moments, one)
            totals.append(pixel_sums(block.counts, self.valid))
            methods |= twotime.methods(block.counts)
        assert strips is not None
        assert moments is not None
        g2 = multitau.finish(moments, config.static_weighting)
        full, windows = self._c2(strips, scale, whole, store)
        return QBin(frozenset(methods), whole, np.concatenate(totals), g2, full, windows, scale)

    def _c2(
        self,
        strips: Iterator[np.ndarray],
        scale: np.ndarray,
        whole: Piece,
        store: Callable[[int, np.ndarray], None],
    ) -> tuple[Any, Any]:
        """Store the sums of products row by row, and read g2 off the C2 that they give."""
        num_frames = len(scale)
        intensity = whole.sums.sum(axis=0) / max(1, whole.sizes.sum()) if self.config.g2_rule == "ratio" else None
        full = diagonals.empty_sums(num_frames)
        windows = diagonals.empty_sums(num_frames, min(self.config.age_windows, num_frames))
        for start, rows in twotime.tile_rows(strips, num_frames, self.tiles.edge, self.tiles.reach):
            store(start, rows)
            height, width = rows.shape
            c2 = twotime.normalise(rows, scale[start : start + height], scale[start : start + width])
            diagonals.add_tile(c2, start, start, full, intensity)
            diagonals.add_tile(c2, start, start, windows, intensity)
        return diagonals.finish(full), diagonals.finish(windows)


def bounds_of(static_labels: np.ndarray) -> np.ndarray:
    """First pixel of each static bin, and the end of the last."""
    starts = np.flatnonzero(np.diff(static_labels, prepend=-1))
    return np.append(starts, len(static_labels)).astype(np.int64)


def piece_of(block: Block) -> Piece:
    """The sums of one block."""
    bounds = bounds_of(block.static_labels)
    return Piece(block.static_labels[bounds[:-1]], np.diff(bounds), twotime.sums(block.counts, bounds))


def joined(pieces: Sequence[Piece]) -> Piece:
    """The sums of all blocks; a static bin may lie in several."""
    if len(pieces) == 1:
        return pieces[0]
    labels, member = np.unique(np.concatenate([piece.labels for piece in pieces]), return_inverse=True)
    parts = np.concatenate([piece.sums for piece in pieces])
    sizes, sums = np.zeros(len(labels), dtype=np.int64), np.zeros((len(labels), parts.shape[1]), dtype=parts.dtype)
    np.add.at(sizes, member, np.concatenate([piece.sizes for piece in pieces]))
    np.add.at(sums, member, parts)
    return Piece(labels, sizes, sums)


def _added(total: Iterator[np.ndarray] | None, more: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Sums of the strips of two sets of pixels; in float64, exact for integers below 2^53."""
    if total is None:
        return iter([strip.astype(np.float64) for strip in more])
    return iter([old + new for old, new in zip(total, more, strict=True)])
