"""A look at a scan as a whole, before any q-bin is correlated: dead pixels, hot pixels, counts of the frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ainerd_hpc.correlation.corrections import Corrections
from ainerd_hpc.correlation.counts.gathering import Gathering
from ainerd_hpc.correlation.counts.layout import Layout
from ainerd_hpc.correlation.counts.pixels import StoredEvents, measured_counts, selected
from ainerd_hpc.correlation.selection import Selection
from ainerd_hpc.formats.reader import Frames
from ainerd_hpc.kernels.corrections import hot_pixels
from ainerd_hpc.kernels.gather import pixel_sums


class Survey(NamedTuple):
    """What is to be known of a scan as a whole."""

    layout: Layout
    """The layout of the pixels that are left."""
    dead: np.ndarray
    """(n,) numbers in the frame of pixels that are left out: dead ones."""
    hot: np.ndarray
    """(m,) the same of hot ones."""
    photons: np.ndarray
    """(t,) corrected counts of each frame on all pixels that are left; 0 where none was measured."""


class Look(Protocol):
    """How the counts of a scan are looked at, without keeping them."""

    def photons(self, order: np.ndarray, is_dead: np.ndarray) -> np.ndarray:
        """(2, t) counts of each frame on the pixels `order`, as measured and as corrected; marks the dead ones."""

    def sums(self, order: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """(p,) corrected counts of each of the pixels `order` in the valid frames, (t,)."""


def look_at(
    source: Frames | StoredEvents, layout: Layout, selection: Selection, corrections: Corrections | None, threads: int
) -> Look:
    """The way of looking at counts that are stored so."""
    if isinstance(source, StoredEvents):
        return _EventLook(source, selection, corrections)
    return Gathering(source, layout, selection, threads, corrections=corrections)


def survey(
    look: Look, layout: Layout, valid_frames: Callable[[np.ndarray], np.ndarray], threshold: float | None
) -> Survey:
    """Dead pixels, hot ones by `kernels.corrections.hot_pixels`, and the counts of the frames on the others.

    All frames are looked at once, and once more for each: where pixels are dead, where hot ones are looked for, and
    where there are any.

    Parameters
    ----------
    valid_frames : callable
        Which frames (t,) are good, by the counts of each on the living pixels.
    threshold : float or None
        None: hot pixels are not looked for.
    """
    order = layout.order
    is_dead, is_hot = np.zeros(len(order), dtype=bool), np.zeros(len(order), dtype=bool)

    def counted(numbers: np.ndarray) -> np.ndarray:
        return look.photons(numbers, np.zeros(len(numbers), dtype=bool))

    photons = look.photons(order, is_dead)
    if is_dead.any():  # what they counted while they lived
        photons -= counted(order[is_dead])
    if threshold is not None:
        living = layout.without(is_dead)
        sums = look.sums(living.order, valid_frames(_lit(photons)))
        is_hot[~is_dead] = hot_pixels(sums, living.bounds, living.static_labels, threshold)
        if is_hot.any():
            photons -= counted(order[is_hot])
    return Survey(layout.without(is_dead | is_hot), order[is_dead], order[is_hot], _lit(photons))


def _lit(photons: np.ndarray) -> np.ndarray:
    """Corrected counts; a frame in which nothing was measured was lost, or dark, whatever is subtracted from it."""
    measured, corrected = photons
    return np.where(measured > 0, corrected, 0.0)


@dataclass(frozen=True, slots=True)
class _EventLook:
    """Events of some pixels at a time."""

    source: StoredEvents
    selection: Selection
    corrections: Corrections | None

    def photons(self, order: np.ndarray, is_dead: np.ndarray) -> np.ndarray:
        is_dead |= np.isin(order, self.source.dead_pixels)
        numbers = np.sort(order)
        total = np.zeros((2, self.selection.num_frames))
        for some, events in self.source.read_some(numbers):
            chosen = selected(events, self.selection)
            total[0] += np.bincount(chosen.time, weights=chosen.count, minlength=self.selection.num_frames)
            if self.corrections is not None:
                here = self.corrections.at(numbers[some])
                for few, counts in measured_counts(events, self.selection):
                    total[1] += here.at(few).apply(counts).sum(axis=(1, 2))
        return total if self.corrections is not None else np.stack([total[0], total[0]])

    def sums(self, order: np.ndarray, valid: np.ndarray) -> np.ndarray:
        found, places = np.empty(len(order)), np.argsort(order)
        numbers = order[places]
        for some, events in self.source.read_some(numbers):
            if self.corrections is None:
                found[places[some]] = pixel_sums(selected(events, self.selection), valid)
                continue
            here = self.corrections.at(numbers[some])
            for few, counts in measured_counts(events, self.selection):
                found[places[some][few]] = here.at(few).apply(counts[valid]).sum(axis=(0, 1))
        return found
