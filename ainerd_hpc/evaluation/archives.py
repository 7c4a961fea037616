"""Archives of known truth, drawn from a seed: C2 of many scans, some in several views, and what is behind each.

Scans differ in kind, tau, contrast, photons, pixels, frames and frame time, as scans of a beamline do. A scan has three
q-bins, which share what happened in it; each gives one map, its whole C2. Some maps have views, which differ from them
in one thing alone, so that one can tell how far that thing moves an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ainerd_hpc.evaluation.kinds import KINDS, UNSEEN, log_uniform
from ainerd_hpc.evaluation.photons import poisson
from ainerd_hpc.evaluation.speckle import half_decay, intensities, two_time

Floats = NDArray[np.float32]
Counts = NDArray[np.uint16]

NUM_Q_BINS = 3
NUM_COMMON = 10
"""Common kinds in an archive: a beamline sees some of them, not all."""
RARE_SHARE = 0.02
"""Share of the scans that each of the kinds in UNSEEN has."""
NUM_FRAMES = (64, 128, 256, 512)
MOST_VALUES = 2_000_000
"""Pixels x frames of a q-bin: more would take long, and make noise less alone."""
SHORTEST_TAU = 0.7
"""Frames below which a decay cannot be seen."""
LEAST_SIGNAL_TO_NOISE = 3.0
"""Signal to noise of the mean of C2 - 1 at a lag of one frame, below which a scan is drawn again."""
VIEWS = ("noise", "thinned", "age", "resampled", "contrast")
"""The same truth in other speckle; half of the same photons; the first and the last 80 % of the frames; two frames as
one; the same truth in twice the modes, as other speckle."""
WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class QBin:
    """What is true of a q-bin of a scan."""

    scan: int
    q_bin: int
    kind: str
    tau: float
    """Frames."""
    frame_time: float
    """s."""
    num_frames: int
    modes: int
    photons: float
    """Mean counts a pixel and frame."""
    pixels: int
    bad_share: float
    """Expected share of frames that are lost."""
    numbers: dict[str, Any]
    """Parameters of the kind."""

    @property
    def g1(self) -> NDArray[Any]:
        """(t, t)."""
        times = (np.arange(self.num_frames) + 0.5) / self.num_frames
        return KINDS[self.kind].form(times, self.tau / self.num_frames, self.numbers)

    @property
    def signal_to_noise(self) -> float:
        """Mean of C2 - 1 at a lag of one frame over its noise from photons alone: 1 / (photons sqrt(pixels)) an entry
        (Jakeman, in Photon Correlation and Light Beating Spectroscopy, 1974)."""
        signal = np.mean(np.abs(np.diagonal(self.g1, 1)) ** 2) / self.modes
        return float(signal * self.photons * np.sqrt(self.pixels * (self.num_frames - 1)))


@dataclass(frozen=True)
class KnownArchive:
    """C2 and truth of all maps, views included."""

    c2: list[Floats]
    """(t, t) float32 each, of its own size; the diagonal holds the photons' noise, lost frames are NaN."""
    truth: pd.DataFrame
    """A row for each C2: scan, q_bin, kind, is_rare, view, map (row of the map that a view belongs to, for a map its
    own), tau and half_decay (s), frame_time (s), frames, contrast, kww_exponent, ageing_rate, photons, pixels,
    bad_share, signal_to_noise, and numbers, all parameters of the kind. NaN where a kind has no such number."""
    redrawn: int
    """Scans that were drawn again, since their C2 would have told nothing."""

    @property
    def is_map(self) -> NDArray[np.bool_]:
        """Which rows are maps, not views of them, (n,)."""
        return np.asarray(self.truth["view"] == WHOLE)


def draw_archive(
    seed: int,
    num_maps: int,
    *,
    num_viewed: int = 300,
    common: Sequence[str] | None = None,
    rare: Sequence[str] = UNSEEN,
    least_signal_to_noise: float = LEAST_SIGNAL_TO_NOISE,
    processes: int = 1,
) -> KnownArchive:
    """Draw an archive; the same seed gives the same bytes, whatever the number of processes.

    Parameters
    ----------
    seed : int
    num_maps : int
        Rounded up to whole scans.
    num_viewed : int
        Maps, drawn by chance, of which there are views, too: six rows more for each.
    common : sequence of str, optional
        Kinds that share all scans but the rare ones evenly; default: ten that the seed draws from those in KINDS.
    rare : sequence of str
        Kinds of which each has 2 % of the scans, and at least one.
    least_signal_to_noise : float
        See LEAST_SIGNAL_TO_NOISE.
    processes : int

    Returns
    -------
    KnownArchive
    """
    random = np.random.default_rng([seed, 0])
    num_scans = -(-num_maps // NUM_Q_BINS)
    kinds = _kinds_of_scans(random, num_scans, common, rare)
    viewed = random.permutation(num_scans * NUM_Q_BINS)[:num_viewed]
    has_views = np.isin(np.arange(num_scans * NUM_Q_BINS), viewed).reshape(num_scans, NUM_Q_BINS)
    drawn = [_draw_scan(seed, scan, kind, least_signal_to_noise) for scan, kind in enumerate(kinds)]
    q_bins = [q_bin for scan, _ in drawn for q_bin in scan]
    seeds = [np.random.SeedSequence([seed, 2, q_bin.scan, q_bin.q_bin]) for q_bin in q_bins]
    made = _in_processes(processes, list(zip(q_bins, seeds, has_views.ravel(), strict=True)))
    return _gathered(made, set(rare), sum(redrawn for _, redrawn in drawn))


def _kinds_of_scans(
    random: np.random.Generator, num_scans: int, common: Sequence[str] | None, rare: Sequence[str]
) -> list[str]:
    """The kind of each scan: exact shares, in an order by chance."""
    if common is None:
        common = random.choice(sorted(set(KINDS) - set(UNSEEN)), NUM_COMMON, replace=False).tolist()
    each = max(1, round(RARE_SHARE * num_scans))
    kinds = [kind for kind in rare for _ in range(each)]
    kinds += [common[number % len(common)] for number in range(num_scans - len(kinds))]
    return [str(kind) for kind in random.permutation(kinds[:num_scans])]


def _draw_scan(seed: int, scan: int, kind: str, least_signal_to_noise: float) -> tuple[list[QBin], int]:
    """The q-bins of a scan, and how many draws told nothing."""
    for draw in range(1000):
        random = np.random.default_rng([seed, 1, scan, draw])
        q_bins = _draw_q_bins(random, scan, kind)
        if min(q_bin.signal_to_noise for q_bin in q_bins) >= least_signal_to_noise:
            return q_bins, draw
    raise ValueError(f"{kind}: expected scans with a signal to noise of {least_signal_to_noise:g}, found none")


def _draw_q_bins(random: np.random.Generator, scan: int, kind: str) -> list[QBin]:
    frames = int(random.choice(NUM_FRAMES))
    low, high = KINDS[kind].tau
    low = max(low, SHORTEST_TAU / frames)
    q_power, step = random.integers(1, 3), random.uniform(1.15, 1.6)
    spread = min(q_power * np.log(step), 0.35 * np.log(high / low))
    middle = random.uniform(np.log(low) + spread, np.log(high) - spread)
    photons, fall = log_uniform(random, 0.003, 5), random.uniform(0.5, 1)
    pixels = log_uniform(random, 300, min(30_000, MOST_VALUES / frames))
    modes, frame_time = round(log_uniform(random, 2, 50)), log_uniform(random, 1e-4, 1)
    bad_share = random.uniform(0, 0.05) if random.random() < 1 / 3 else 0.0
    happened = random.integers(2**63)  # the same in every q-bin
    q_bins = []
    for q_bin in range(NUM_Q_BINS):
        tau = float(np.exp(middle + spread * (1 - q_bin)))
        numbers = KINDS[kind].draw(np.random.default_rng(happened), tau)
        fewer = max(0.003, photons * fall**q_bin)
        more = (scan, q_bin, kind, tau * frames, frame_time, frames, modes, fewer, round(pixels), bad_share, numbers)
        q_bins.append(QBin(*more))
    return q_bins


# ---- from truth to C2

Made = list[tuple[str, QBin, Floats]]
"""View, truth and C2."""


def _in_processes(processes: int, jobs: list[tuple[QBin, np.random.SeedSequence, bool]]) -> Iterator[Made]:
    if processes == 1:
        return map(_make, jobs)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return iter(list(pool.map(_make, jobs, chunksize=8)))


def _make(job: tuple[QBin, np.random.SeedSequence, bool]) -> Made:
    """The map of a q-bin, and its views if it has some."""
    q_bin, seed, has_views = job
    streams = [np.random.default_rng(one) for one in seed.spawn(5)]
    with threadpool_limits(1):  # another number of threads gives other roundings
        counts, bad = _counts(q_bin, streams[0]), streams[1].random(q_bin.num_frames) < q_bin.bad_share
        c2 = _without(two_time(counts), bad)
        made = [(WHOLE, q_bin, c2)]
        if has_views:
            made.append(("noise", q_bin, _without(two_time(_counts(q_bin, streams[2])), bad)))
            half = streams[3].binomial(counts, 0.5)
            made.append(("thinned", replace(q_bin, photons=q_bin.photons / 2), _without(two_time(half), bad)))
            made += [("age", q_bin, c2[window, window]) for window in _windows(q_bin.num_frames)]
            made.append(("resampled", *_joined(q_bin, counts, bad)))
            more = replace(q_bin, modes=2 * q_bin.modes)
            made.append(("contrast", more, _without(two_time(_counts(more, streams[4])), bad)))
    return made


def _counts(q_bin: QBin, random: np.random.Generator) -> Counts:
    """(t, pixel)."""
    means = intensities(q_bin.g1, q_bin.modes, q_bin.pixels, random) * np.float32(q_bin.photons)
    return poisson(means, random)


def _without(c2: Floats, bad: NDArray[np.bool_]) -> Floats:
    """C2 with NaN in the rows and columns of lost frames, in place."""
    c2[bad], c2[:, bad] = np.nan, np.nan
    return c2


def _windows(num_frames: int) -> tuple[slice, slice]:
    """The first and the last 80 % of the frames."""
    length = round(0.8 * num_frames)
    return slice(0, length), slice(num_frames - length, None)


def _joined(q_bin: QBin, counts: Counts, bad: NDArray[np.bool_]) -> tuple[QBin, Floats]:
    """Two frames as one."""
    truth = replace(
        q_bin,
        num_frames=q_bin.num_frames // 2,
        tau=q_bin.tau / 2,
        frame_time=2 * q_bin.frame_time,
        photons=2 * q_bin.photons,
    )
    return truth, _without(two_time(counts[::2] + counts[1::2]), bad[::2] | bad[1::2])


def _gathered(made: Iterator[Made], rare: set[str], redrawn: int) -> KnownArchive:
    c2: list[Floats] = []
    rows = []
    for views in made:
        place = len(c2)
        c2 += [values for _, _, values in views]
        rows += [{"view": view, "map": place, "frames": len(values), **_row(q_bin)} for view, q_bin, values in views]
    truth = pd.DataFrame(rows)
    return KnownArchive(c2, truth.assign(is_rare=truth["kind"].isin(rare)), redrawn)


def _row(q_bin: QBin) -> dict[str, Any]:
    plain = {name: value for name, value in asdict(q_bin).items() if name not in ("modes", "num_frames")}
    return plain | {
        "tau": q_bin.tau * q_bin.frame_time,
        "half_decay": half_decay(q_bin.g1) * q_bin.frame_time,
        "contrast": 1 / q_bin.modes,
        "kww_exponent": q_bin.numbers.get("kww_exponent", np.nan),
        "ageing_rate": ageing_rate(q_bin.kind, q_bin.numbers),
        "signal_to_noise": q_bin.signal_to_noise,
    }


_STEADY = ("stretched", "simple", "compressed", "frozen", "partly_static", "two_step", "power_law", "fringes")


def ageing_rate(kind: str, numbers: dict[str, Any]) -> float:
    """How much longer tau is at the end of a scan than at its beginning, as a natural logarithm: 0 where it stays.

    Negative where the sample quickens; NaN for kinds whose tau is not one number that rises or falls.
    """
    if "initial_age" in numbers:
        return float(np.log1p(1 / numbers["initial_age"])) * (-1 if kind == "rejuvenating" else 1)
    if "rate_ratio" in numbers:
        return -float(np.log(numbers["rate_ratio"]))
    return 0.0 if kind in _STEADY else float("nan")
