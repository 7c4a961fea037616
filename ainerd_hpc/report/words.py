"""Kinds in words: what the maps of a cluster have in common, from numbers with errors and a stated rule.

The maps carry a word if two thirds of all of them lie in its range, each by its own error, and if of those that can say
so many lie there that their median surely does, by three standard errors, or nine of ten where scans are too few for
that. The errors are of ranks, whatever the distribution (the sign test), with as many values as there are scans: maps
of one scan share what happened in it, so it has one opinion, that of most of its maps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NOTHING = "no common kind"
_FEWEST_MAPS, _FEWEST_SCANS = 5, 3
_SHARE, _NUM_SIGMA, _NEARLY_ALL = 2 / 3, 3.0, 0.9

LEAST_AGEING = np.log(1.5)
"""ln of the ratio of half decays that is called slowing down or quickening."""
SUDDEN, GRADUAL = 0.2, -0.1
"""ln of the ratio of misfits: maps that do not change scatter by 0.05 about 0.05."""
LEAST_BURSTS = 0.5
UNEVEN, EVEN = 0.15, 0.12
"""Standard deviations of C2 over age, in contrasts: few speckles give up to 0.1."""
LEAST_RETURN = 0.15
LEAST_STATIC, STILL = 0.05, 0.9
LEAST_STEP = 0.03
STRETCHED, COMPRESSED = 0.8, 1.2
_SAME_LAW = 0.35
"""Half width of the range in which two thirds of the scans' powers of q lie, and least power."""
_FRAMES_OF_DECAY = 8.0
"""Half decay, in frames, from which the decay before the first lag no longer bends the law of q."""
_SAME_PERIOD = 2.0
"""Largest ratio of the quartiles of a period that one number stands for."""


def kinds_in_words(table: pd.DataFrame) -> dict[int, str]:
    """A phrase for each cluster.

    Parameters
    ----------
    table : DataFrame
        A row for each map: label (-1: noise), scan_id, the traits of `kernels.traits` and the numbers of the fit, with
        their errors; with q, age_start and half_decay also the law of q. A number that is not there carries no word.

    Returns
    -------
    dict of int to str
        By label, without noise; `NOTHING` where the numbers carry no word.
    """
    maps = table.groupby("label")
    return {int(label): phrase(maps.get_group(label)) for label in table["label"].unique() if label >= 0}


def phrase(maps: pd.DataFrame) -> str:
    """What these maps have in common."""
    if len(maps) < _FEWEST_MAPS:
        return NOTHING
    if carries(maps, "static_share", STILL):
        return "still within a window"
    returns, ageing = _returns(maps), _ageing(maps)
    bursts = _bursts(maps, LEAST_BURSTS if not ageing else LEAST_BURSTS + 1)  # one dip may be the change itself
    words = [returns or bursts, ageing, _shape(maps), "" if bursts or ageing else _law_of_q(maps)]
    return ", ".join(filter(None, words)) or NOTHING


def carries(maps: pd.DataFrame, name: str, low: float = -np.inf, high: float = np.inf) -> bool:
    """Whether this number of the maps carries the word whose range is low .. high."""
    if name not in maps:
        return False
    values, errors = maps[name].to_numpy(np.float64), _errors(maps, name)
    by_error = (values - errors > low) & (values + errors < high)
    return by_error.mean() >= _SHARE and not contradicts(maps, name, low, high)


def contradicts(maps: pd.DataFrame, name: str, low: float = -np.inf, high: float = np.inf) -> bool:
    """Whether the maps that can say disagree with the word of low .. high; a number that is not there does."""
    if name not in maps:
        return True
    known, errors = maps[name].to_numpy(np.float64), 2 * np.nan_to_num(_errors(maps, name))
    inside, is_known = (known + errors > low) & (known - errors < high), np.isfinite(known)
    scans = maps["scan_id"].to_numpy()
    return bool(is_known.any()) and not _agree(inside[is_known], scans[is_known], len(set(scans)))


def _errors(maps: pd.DataFrame, name: str) -> Floats:
    return maps[f"{name}_err"].to_numpy(np.float64) if f"{name}_err" in maps else np.zeros(len(maps))


def _agree(inside: NDArray[np.bool_], scans: NDArray[Any], num_scans: int) -> bool:
    """Whether so many lie inside, each scan with most of its maps, that it is two thirds, and their median surely
    does."""
    _, scan, sizes = np.unique(scans, return_inverse=True, return_counts=True)
    is_for = np.bincount(scan, inside) > sizes / 2
    share = sizes[is_for].sum() / sizes.sum()
    return bool(share >= min(max(_SHARE, 0.5 + _NUM_SIGMA / 2 / np.sqrt(num_scans)), _NEARLY_ALL))


def _returns(maps: pd.DataFrame) -> str:
    """Echoes are there at some ages and not at others; the fringes of a steady flow are the same at all."""
    if not carries(maps, "return_height", LEAST_RETURN):
        return ""
    if carries(maps, "unevenness", UNEVEN):
        return f"echoes{_period(maps)}"
    return f"fringes{_period(maps)}" if carries(maps, "unevenness", -1, EVEN) else "correlation returns"


def _period(maps: pd.DataFrame) -> str:
    low, middle, high = np.nanquantile(maps["return_lag"].to_numpy(np.float64), (0.25, 0.5, 0.75))
    return f" of period {middle:.2g} s" if high < _SAME_PERIOD * low else ""


def _bursts(maps: pd.DataFrame, least: float) -> str:
    if not (carries(maps, "bursts", least) and carries(maps, "unevenness", UNEVEN)):
        return ""
    number = round(float(np.nanmedian(maps["bursts"])))
    return f"intermittent, about {number} burst{'s' * (number != 1)} within a window"


def _ageing(maps: pd.DataFrame) -> str:
    if carries(maps, "ageing", LEAST_AGEING):
        change = "slowing down"
    elif carries(maps, "ageing", high=-LEAST_AGEING):
        change = "quickening"
    else:
        return ""
    how = " suddenly" if carries(maps, "suddenness", SUDDEN) else ""
    how = " gradually" if carries(maps, "suddenness", high=GRADUAL) else how
    return f"{change}{how} {np.exp(np.abs(np.nanmedian(maps['ageing']))):.2g}x within a window"


def _shape(maps: pd.DataFrame) -> str:
    """Words on g2, which is a mean over ages: only where all ages are alike."""
    if not carries(maps, "unevenness", -1, EVEN) or contradicts(maps, "ageing", -LEAST_AGEING, LEAST_AGEING):
        return ""
    if carries(maps, "static_share", LEAST_STATIC):
        return f"static share {np.nanmedian(maps['static_share']):.2g} of g2"
    if contradicts(maps, "return_height", -1, LEAST_RETURN):
        return ""
    return "two steps" if carries(maps, "second_step", LEAST_STEP) else _decay(maps)


def _decay(maps: pd.DataFrame) -> str:
    exponent = np.nanmedian(maps["kww_exponent"]) if carries(maps, "kww_exponent") else np.nan
    if carries(maps, "kww_exponent", high=STRETCHED):
        return f"stretched decay, exponent {exponent:.2g}"
    if carries(maps, "kww_exponent", COMPRESSED):
        return f"compressed decay, exponent {exponent:.2g}"
    return "simple exponential decay" if carries(maps, "kww_exponent", STRETCHED, COMPRESSED) else ""


def _law_of_q(maps: pd.DataFrame) -> str:
    """half decay ~ q^-n, where the scans agree on n."""
    if not {"q", "age_start", "frame_time", "half_decay", "half_decay_err"} <= set(maps):
        return ""
    known = maps[np.isfinite(maps["half_decay_err"]) & (maps["q"] > 0)]
    seen = (known["half_decay"] > _FRAMES_OF_DECAY * known["frame_time"]).groupby(known["scan_id"]).transform("all")
    powers = np.array([_power(scan) for _, scan in known[seen].groupby("scan_id")], dtype=np.float64)
    powers = powers[np.isfinite(powers)]
    if len(powers) < _FEWEST_SCANS:
        return ""
    power = float(np.median(powers))
    alike = _agree(np.abs(powers - power) < _SAME_LAW, np.arange(len(powers)), len(powers))
    return f"half decay ~ q^{-power:.1f}" if alike and abs(power) > _SAME_LAW else ""


def _power(scan: pd.DataFrame) -> float:
    """-d ln(half decay) / d ln(q) within the windows of a scan; NaN where they have one q-bin each."""
    window = scan["age_start"]
    x, y = (np.log(scan[name]) - np.log(scan[name]).groupby(window).transform("mean") for name in ("q", "half_decay"))
    spread = float((x**2).sum())
    return -float((x * y).sum()) / spread if spread > 1e-6 else np.nan
