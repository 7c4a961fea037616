"""Figures of one scan: its two-time correlations, its g2 with fits, and tau against q."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ainerd_hpc.api import Archive
from ainerd_hpc.correlation.product import PARAMETERS
from ainerd_hpc.figures.drawn import NARROW, SEQUENTIAL, WIDE, Drawn
from ainerd_hpc.kernels.diagonals import fill_diagonal
from ainerd_hpc.kernels.fitting import kww, power_law

_MOST_Q_BINS = 6
"""q-bins that are shown: of more some from the first to the last."""
_EDGE = 128
"""Pixels of a panel of C2, at most."""
_Q = "q (1/Å)"


def c2_panels(archive: Archive, scan_id: str) -> Drawn | None:
    """C2 of the q-bins of a scan against both times, side by side in one range of colours."""
    panels = [_coarse(archive.c2(scan_id, q_bin)) for q_bin in _shown(archive, scan_id)]
    values = np.concatenate([one.to_numpy().ravel() for one in panels])
    if not np.isfinite(values).any():
        return None
    low, high = np.nanquantile(values, [0.02, 0.995])
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    width = WIDE if columns > 1 else NARROW
    figure = Figure(figsize=(width, rows * width / (columns + 0.4)), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, one in zip(axes.flat, panels, strict=False):
        end = one.attrs["stop"]
        image = axis.imshow(one, origin="lower", extent=(one.attrs["start"], end) * 2, vmin=low, vmax=high)
        axis.set_title(f"q = {float(one.q):.3g} Å$^{{-1}}$")
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("$t_1$ (s)", fontsize="medium")
    figure.supylabel("$t_2$ (s)", fontsize="medium")
    figure.colorbar(image, ax=axes, label="$C_2$", shrink=0.8, extend="both")
    tables = [one.to_dataframe("c2").reset_index() for one in panels]
    numbers = pd.concat(tables).rename(columns={"t1": "t1_s", "t2": "t2_s", "q": "q_per_angstrom"})
    numbers = numbers[["q_bin", "q_per_angstrom", "t1_s", "t2_s", "c2"]]
    return Drawn(figure, numbers, (archive.layout.correlation_path(scan_id),))


def _coarse(c2: xr.DataArray) -> xr.DataArray:
    """Means of blocks of C2, its raw diagonal replaced by its neighbours; which times it spans, s."""
    filled = c2.copy(data=fill_diagonal(np.asarray(c2)))
    step = -(-len(c2) // _EDGE)
    frame_time = float(c2.t1[1] - c2.t1[0])
    small = filled.coarsen(t1=step, t2=step, boundary="trim").mean()
    start = float(c2.t1[0])
    return small.assign_attrs(start=start, stop=start + small.sizes["t1"] * step * frame_time)


def g2_with_fits(archive: Archive, scan_id: str) -> Drawn | None:
    """g2 of the q-bins of a scan against delay, with standard errors and KWW fits."""
    found, fits = archive.g2(scan_id), archive.fits(scan_id)
    figure = Figure(figsize=(NARROW, 2.6))
    axis = figure.subplots()
    shown = _shown(archive, scan_id)
    rows = []
    for place, q_bin in enumerate(shown):
        one = found.sel(q_bin=q_bin)
        is_sure = one.g2_err.to_numpy() > 0  # a lag of one pair of frames has no error, nor have maps without noise
        known = np.isfinite(one.g2.to_numpy()) & (is_sure | ~is_sure.any())
        delay, g2, error = (values.to_numpy()[known] for values in (one.delay, one.g2, one.g2_err))
        line = np.full(len(delay), np.nan)
        if "tau" in fits:
            parameters = [float(fits[name].sel(q_bin=q_bin)) for name in PARAMETERS]
            line = kww.model(delay, *parameters) if np.isfinite(parameters).all() else line
        colour = colormaps[SEQUENTIAL](0.9 * place / max(len(shown) - 1, 1))
        axis.errorbar(delay, g2, error, fmt="o", color=colour, elinewidth=0.6, label=f"{float(one.q):.3g}")
        axis.plot(delay, line, color=colour)
        table = {"q_bin": q_bin, "q_per_angstrom": float(one.q), "delay_s": delay, "g2": g2, "g2_err": error}
        rows.append(pd.DataFrame({**table, "fit": line}))
    numbers = pd.concat(rows)
    if numbers.empty:
        return None
    axis.set(xscale="log", xlabel="delay (s)", ylabel="$g_2$")
    axis.legend(title=_Q, title_fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return Drawn(figure, numbers, (archive.layout.correlation_path(scan_id),))


def tau_of_q(archive: Archive, scan_id: str) -> Drawn | None:
    """Relaxation time against q with standard errors, and the power law through them."""
    fits = archive.fits(scan_id)
    if "tau" not in fits or not (np.isfinite(fits.tau) & np.isfinite(fits.q)).any():
        return None
    q, tau, error = (fits[name].to_numpy() for name in ("q", "tau", "tau_err"))
    law = fits.power_law.to_series()
    line = power_law.model(q, law["prefactor"], law["exponent"])
    figure = Figure(figsize=(NARROW, 2.6))
    axis = figure.subplots()
    axis.errorbar(q, tau, error, fmt="o", color="black", elinewidth=0.6)
    if np.isfinite(line).any():
        text = f"$\\tau \\sim q^{{-n}}$, n = {law['exponent']:.2f} ± {law['exponent_err']:.2f}"
        axis.plot(q, line, color="#1d4bba", label=text)
        axis.legend()
    axis.set(xscale="log", yscale="log", xlabel=_Q, ylabel="relaxation time τ (s)")
    _few_ticks(axis)
    table = {"q_bin": fits.q_bin.to_numpy(), "q_per_angstrom": q, "tau_s": tau, "tau_err_s": error}
    return Drawn(figure, pd.DataFrame({**table, "power_law_s": line}), (archive.layout.correlation_path(scan_id),))


def _few_ticks(axis: Axes) -> None:
    """Put ticks at 1, 2 and 5 of each decade, or at more where that is few, as plain numbers."""
    for one, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        one.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high > 5 * low else range(1, 10)))
        one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        one.set_minor_formatter(NullFormatter())


def _shown(archive: Archive, scan_id: str) -> list[int]:
    """The q-bins of a scan that are shown."""
    num = archive.g2(scan_id).sizes["q_bin"]
    return [int(q_bin) for q_bin in np.unique(np.linspace(0, num - 1, min(num, _MOST_Q_BINS)).round())]


OF_SCANS: Mapping[str, Callable[[Archive, str], Drawn | None]] = {
    "c2": c2_panels,
    "g2": g2_with_fits,
    "tau_q": tau_of_q,
}
"""name -> what draws it of a scan; None where the scan has nothing of it."""
