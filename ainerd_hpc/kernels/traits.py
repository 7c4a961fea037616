"""What a window of C2 says about how its sample moves: numbers with errors, from which words may be drawn.

Ageing is read off the half decays at both ends of the window, intermittence off C2 at one short lag against age (the
time resolved correlation of Cipelletti et al., J. Phys. Condens. Matter 15, S257, 2003), echoes, static shares and
steps off g2. The errors are those of the noise of neighbouring entries; slow fluctuations of few speckles come on top,
so a word needs many maps that agree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from ainerd_hpc.kernels.cells import PER_OCTAVE, Cells, Lines, lag_sums, lines_of, smoothed

Floats = NDArray[np.float64]

_CELL = np.log(2) / PER_OCTAVE
"""Width of a cell of lag, in ln."""
NUM_SIGMA = 4.0
"""Errors by which a dip or a peak stands out: a window has some hundred places for one by chance."""
_FEWEST_FRAMES = 16
"""Frames below which there is less than one to a strip of age."""
_LARGEST_ERR = 0.15
"""Error, in contrasts, beyond which a level says nothing."""
_LEAST_DIP, _LEAST_PEAK, _LEAST_STEP = 0.35, 0.08, 0.04
"""Contrasts: what a dip of C2 over age, a peak of g2, and a second maximum of its decay an octave, must exceed."""
_BANDS = ((0.4, 0.55), (0.55, 0.75))
"""Shares of the window: the lags between which a plateau must be level."""
_LEVEL = 0.12
"""Largest change of ln(g2 - 1) between these bands, alone and as a share of the decay before, that is level."""
_PLACES = 24
"""Ages at which a change is compared with a step and with a gradual one."""
_BEGINNINGS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Ages of a sample at the beginning of a window, in windows, of which ln(age) is tried as its course."""


class Traits(NamedTuple):
    """Numbers of a window, NaN where it cannot say; times in frames, levels in contrasts, `_err` standard errors."""

    ageing: float
    """ln of the half decay in the last third of the window over that in the first; nearer to 0 than the truth where an
    end decays too slowly or too fast to be seen."""
    ageing_err: float
    suddenness: float
    """ln of the misfit (rms) of a gradual change, C2 ~ ln(age), over that of a step: above 0 for a sudden change."""
    change_age: float
    """Where the step lies."""
    bursts: float
    """Times in the window at which C2 at a short lag falls, and comes back."""
    bursts_err: float
    unevenness: float
    """Standard deviation over age of C2 at the half decay, beyond its noise and a straight line."""
    return_lag: float
    """First lag at which g2 has a peak: the period of echoes or fringes."""
    return_height: float
    """How far the peak stands out, 0 where there is none."""
    return_height_err: float
    static_share: float
    """Level of g2 at the longest lags, where it is level, or has come down to 0."""
    static_share_err: float
    second_step: float
    """How far a second maximum of the decay of g2 an octave stands out, 0 where there is one alone."""
    second_step_err: float


TIMES = ("change_age", "return_lag")
"""The traits in frames."""


class _Curve(NamedTuple):
    """g2 at every lag 1 .. w - 1."""

    level: Floats
    """(lag,) g2 - 1 in contrasts."""
    noise: Floats
    """(lag,) standard deviation of an entry of C2, in contrasts."""
    number: Floats
    """(lag,) entries."""


def traits(c2: NDArray[np.floating[Any]], found: Cells) -> Traits:
    """The traits of a window of C2.

    Parameters
    ----------
    c2 : (w, w) array of floats
        Symmetric, baseline 1, w >= 4; only the triangle above the diagonal is read. Entries that are not finite carry
        no weight.
    found : Cells
        The cells of the window: its contrast and half decay.

    Returns
    -------
    Traits
    """
    nothing = Traits(*[np.nan] * len(Traits._fields))
    if len(c2) < _FEWEST_FRAMES or found.signal_to_noise < NUM_SIGMA:
        return nothing
    sums = lag_sums(c2)
    curve, lines = _curve(sums, found.contrast), lines_of(sums)
    if curve is None:
        return nothing
    return Traits(
        *_ageing(lines, found.contrast),
        *_change(c2, curve, found),
        *_bursts(c2, curve, found),
        _unevenness(c2, curve, found),
        *_return(curve, found.half_decay),
        *_static_share(curve),
        *_second_step(lines, found.contrast),
    )


def _curve(sums: Floats, contrast: float) -> _Curve | None:
    """g2 of the window; None where no entries are neighbours, and its noise is not known."""
    number, total, _, steps, num_steps = sums.sum(axis=2)
    level = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
    known, lag = np.flatnonzero(num_steps > 0.5), np.arange(len(level))
    if not len(known):
        return None
    noise = np.sqrt(steps[known] / (2 * num_steps[known]))
    return _Curve(level / contrast, np.interp(lag, known, noise) / contrast, number)


# ---- over age


def _ageing(lines: Lines, contrast: float) -> tuple[float, float]:
    third = lines.mean.shape[1] // 3
    first, first_err = _half_decay(lines, slice(0, third), contrast)
    last, last_err = _half_decay(lines, slice(-third, None), contrast)
    if np.isinf(first_err) and np.isinf(last_err):
        return np.nan, np.nan
    known = [_CELL if np.isinf(err) else err for err in (first_err, last_err)]
    return last - first, float(np.hypot(known[0], known[1]))


def _half_decay(lines: Lines, ages: slice, contrast: float) -> tuple[float, float]:
    """ln of the half decay at these ages and its error; infinite where it is only known to lie beyond that lag."""
    weight = np.where(np.isfinite(lines.error[:, ages]), 1 / np.maximum(lines.error[:, ages], 1e-9) ** 2, 0.0)
    total = weight.sum(axis=1)
    mean = np.divide((weight * lines.mean[:, ages]).sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
    error = np.where(total > 0, 1 / np.sqrt(np.maximum(total, 1e-30)), np.inf)
    level, err = (values / contrast for values in smoothed(mean, error))
    known = np.flatnonzero((total > 0) & (err < _LARGEST_ERR))
    if not len(known):
        return np.nan, np.nan
    below = known[level[known] < 0.5]
    if not len(below) or below[0] == known[0]:
        return _CELL * float(known[0] if len(below) else known[-1]), np.inf
    step = max(level[below[0] - 1] - level[below[0]], 0.01)
    share = np.clip((level[below[0] - 1] - 0.5) / step, 0, 1)
    return _CELL * (below[0] - 1 + float(share)), _CELL * float(err[below[0]] / step)


def _profile(c2: NDArray[np.floating[Any]], low: int, high: int, width: int) -> tuple[Floats, Floats]:
    """Mean of C2 - 1 over the lags low .. high and `width` ages, at every age, and of how many entries it is, (w,)."""
    total, number = np.zeros(len(c2)), np.zeros(len(c2))
    for lag in range(low, high + 1):
        values = np.diagonal(c2, lag) - 1.0
        finite = np.isfinite(values)
        inside = slice(lag // 2, lag // 2 + len(values))
        total[inside] += np.where(finite, values, 0)
        number[inside] += finite
    box = np.ones(width)
    number = np.convolve(number, box, "same")
    return np.convolve(total, box, "same") / np.maximum(number, 1), number


def _change(c2: NDArray[np.floating[Any]], curve: _Curve, found: Cells) -> tuple[float, float]:
    """How much better a step over age describes C2 than a gradual course, and where it lies."""
    lag = _short_lag(found.half_decay, len(c2) // 8)
    level, number = _profile(c2, (lag + 1) // 2, lag, max(1, len(c2) // _PLACES))
    age = np.linspace(lag / 2, len(c2) - 1 - lag / 2, _PLACES)
    at = np.rint(age).astype(int)
    if (number[at] == 0).any():
        return np.nan, np.nan
    time, width = (age + 0.5) / len(c2), max(lag / len(c2), 1 / _PLACES)
    steps = np.clip((time - time[2:-2, np.newaxis]) / width + 0.5, 0, 1)
    begin = np.array(_BEGINNINGS)[:, np.newaxis]
    gradual = np.concatenate([np.log(time + begin), np.log(1 - time + begin), time[np.newaxis]])
    step, course = (_misfits(basis, level[at]) for basis in (steps, gradual))
    least = 1e-6 * found.contrast**2
    return float(np.log((course.min() + least) / (step.min() + least)) / 2), float(age[2 + int(step.argmin())])


def _misfits(bases: Floats, values: Floats) -> Floats:
    """Mean squared residual of the best a + b basis, for each basis."""
    centred = bases - bases.mean(axis=1, keepdims=True)
    rest = values - values.mean()
    return np.asarray(np.mean(rest**2) - np.mean(centred * rest, axis=1) ** 2 / np.mean(centred**2, axis=1))


def _short_lag(half_decay: float, most: int) -> int:
    return int(np.clip(round(half_decay / 2), 1, max(1, most)))


def _bursts(c2: NDArray[np.floating[Any]], curve: _Curve, found: Cells) -> tuple[float, float]:
    """How many dips C2 has over age at a short lag; the error is of those that a little noise would add or take.

    Where single frames are too noisy the lag is longer, and the mean over as many more ages.
    """
    most = max(1, len(c2) // 16)
    lag = _short_lag(found.half_decay, most)
    while True:
        level, number = _profile(c2, (lag + 1) // 2, lag, max(1, lag // 2))
        known = number > 0.5 * np.median(number)
        err = curve.noise[lag - 1] / np.sqrt(max(float(np.median(number)), 1.0))
        if err <= _LARGEST_ERR or lag == most:
            break
        lag = min(2 * lag, most)
    if not known.any() or err > _LARGEST_ERR:
        return np.nan, np.nan
    depths = find_peaks(-level[known] / found.contrast, prominence=0.1)[1]["prominences"]
    least = max(_LEAST_DIP, NUM_SIGMA * err)
    doubtful = np.sum(np.abs(depths - least) < 2 * err)
    return float(np.sum(depths > least)), float(doubtful) / 2


def _unevenness(c2: NDArray[np.floating[Any]], curve: _Curve, found: Cells) -> float:
    lag = int(np.clip(round(found.half_decay), 1, len(c2) // 4))
    level, number = _profile(c2, max(1, lag - lag // 4), lag + lag // 4, max(1, lag // 2))
    known = number > 0.5 * np.median(number)
    if known.sum() < 8:
        return np.nan
    age = np.flatnonzero(known).astype(float)[np.newaxis]
    variance = _misfits(age, level[known] / found.contrast)[0]
    noise = np.mean(curve.noise[lag - 1] ** 2 / number[known])
    return float(np.sqrt(max(variance - noise, 0)))


# ---- g2


def _return(curve: _Curve, half_decay: float) -> tuple[float, float, float]:
    """The first large peak of g2: lag, height and error; as wide as the first decay, or nearly."""
    most = int(0.75 * len(curve.level))
    if not half_decay < most:
        return np.nan, np.nan, np.nan
    box = np.ones(2 * int(half_decay / 4) + 1)
    known = np.isfinite(curve.level)
    number = np.convolve(curve.number * known, box, "same")
    level = np.convolve(np.nan_to_num(curve.level) * curve.number, box, "same") / np.maximum(number, 1)
    err = curve.noise / np.sqrt(np.maximum(number, 1))
    level, err = level[len(box) // 2 : most], err[len(box) // 2 : most]
    typical = float(np.median(err))
    if typical > _LARGEST_ERR or len(level) < 3:
        return np.nan, np.nan, np.nan
    peaks, about = find_peaks(level, prominence=_LEAST_PEAK)
    sure = about["prominences"] > NUM_SIGMA * np.sqrt(2) * err[peaks]
    if not sure.any():
        return np.nan, 0.0, np.sqrt(2) * typical
    heights = about["prominences"] * sure
    first = int(np.flatnonzero(heights > heights.max() / 2)[0])
    return float(peaks[first] + 1 + len(box) // 2), float(heights[first]), float(np.sqrt(2) * err[peaks[first]])


def _static_share(curve: _Curve) -> tuple[float, float]:
    (before, before_err), (level, err) = (_band(curve, *band) for band in _BANDS)
    if not max(before_err, err) < _LARGEST_ERR:
        return np.nan, np.nan
    if level < max(0.03, 2 * err):
        return max(level, 0.0), err
    change = np.log(max(before, 1e-3) / level)
    is_level = abs(change) < _LEVEL and (level > 0.9 or abs(change) < _LEVEL * -np.log(level))
    return (level, err) if is_level else (np.nan, np.nan)


def _band(curve: _Curve, low: float, high: float) -> tuple[float, float]:
    inside = slice(int(low * len(curve.level)), max(int(high * len(curve.level)), int(low * len(curve.level)) + 1))
    number, level = curve.number[inside], np.nan_to_num(curve.level[inside])
    total = max(float(number.sum()), 1.0)
    return float((number * level).sum() / total), float(np.sqrt((number * curve.noise[inside] ** 2).sum()) / total)


def _second_step(lines: Lines, contrast: float) -> tuple[float, float]:
    """The decay of g2 an octave has one maximum for any KWW, two where a plateau lies between two decays."""
    known = np.flatnonzero(np.isfinite(lines.g2_err))
    level, err = (values[known] / contrast for values in smoothed(lines.g2, lines.g2_err))
    half = PER_OCTAVE // 2
    usable = np.flatnonzero(err < _LARGEST_ERR)
    if len(usable) <= 2 * PER_OCTAVE:
        return np.nan, np.nan
    level, err = level[: usable[-1] + 1], err[: usable[-1] + 1]
    level = np.concatenate([np.full(half, level[0]), level])
    fall = level[: -2 * half] - level[2 * half :]
    fall_err = np.hypot(err[half:], np.concatenate([np.zeros(half), err])[: len(fall)])[: len(fall)]
    peaks, about = find_peaks(np.concatenate([[-1.0], fall, [-1.0]]), prominence=_LEAST_STEP)
    typical = float(np.median(fall_err))
    sure = about["prominences"] > NUM_SIGMA * fall_err[np.clip(peaks - 1, 0, len(fall_err) - 1)]
    if sure.sum() < 2:
        return 0.0, typical
    return float(np.sort(about["prominences"][sure])[-2]), typical
