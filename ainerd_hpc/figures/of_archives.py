"""Figures of a whole archive: the map, what stands for its clusters, their physics, and how they follow each other."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ainerd_hpc.api import Archive
from ainerd_hpc.figures.drawn import NARROW, NOISE, WIDE, Drawn, hue, mark
from ainerd_hpc.kernels.relations.transitions import counts
from ainerd_hpc.report.columns import heading, is_numeric
from ainerd_hpc.report.relations.maps import Maps

_MOST_NAMED = 16
"""Clusters that a legend names."""
_MOST_ROWS = 10
"""Clusters that a grid of exemplars, or a matrix, has a row for."""
_MOST_POINTS = 20_000
"""Points above which they are drawn as pixels, also in a PDF; text stays text."""
_PHYSICS = ("half_decay", "tau", "contrast", "kww_exponent", "ageing", "novelty")
_LOGARITHMIC = ("half_decay", "tau")
_LONGEST_KIND = 52


def whole_map(archive: Archive) -> Drawn | None:
    """Every map as a point, coloured by its cluster."""
    maps = archive.maps[["map_id", "x", "y", "label"]]
    figure = Figure(figsize=(WIDE, 3.6))
    axis = figure.subplots()
    drawn_last = sorted(set(maps["label"]), key=lambda label: (label >= 0, label))
    named = _largest(archive, _MOST_NAMED)
    for label in drawn_last:
        some = maps[maps["label"] == label]
        text = f"{label}  {_kind(archive, label)}" if label in named else None
        size = 8 if len(maps) < 2000 else 2
        _scatter(axis, some["x"], some["y"], label, size, len(maps), text)
    if (maps["label"] < 0).any():
        axis.scatter([], [], s=8, color=NOISE, linewidths=0, label="in no cluster")
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.spines[:].set_visible(False)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.5)
    return Drawn(figure, maps, (archive.layout.clusters_path(archive.model),))


def exemplar_grid(archive: Archive) -> Drawn | None:
    """The maps that stand for the largest clusters, a row a cluster."""
    labels = _largest(archive, _MOST_ROWS)
    pictures = {label: archive.cluster(label).exemplars.coarsen(y=2, x=2).mean() for label in labels}
    columns = max((len(one) for one in pictures.values()), default=0)
    if not columns:
        return None
    figure = Figure(figsize=(WIDE, 0.72 * len(labels) + 0.3), layout="compressed")
    axes = figure.subplots(len(labels), columns, squeeze=False)
    for row, (label, some) in zip(axes, pictures.items(), strict=True):
        for axis, picture in zip(row, some.to_numpy(), strict=False):
            axis.imshow(picture, origin="lower", vmin=0, vmax=1)
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        text = f"{label}  {_kind(archive, label)}"
        row[0].set_ylabel(textwrap.fill(text, 26), rotation=0, ha="right", va="center")
    rows = archive.maps.set_index("map_id").loc[[name for one in pictures.values() for name in one.map_id.to_numpy()]]
    numbers = rows[
        ["label", "q", "age_start", "age_stop", "seconds_per_pixel", "scale_low", "scale_high"]
    ].reset_index()
    products = dict.fromkeys(archive.layout.maps_path(scan_id) for scan_id in rows["scan_id"])
    return Drawn(figure, numbers, (archive.layout.cluster_summary_path(archive.model), *products))


def cluster_physics(archive: Archive) -> Drawn | None:
    """Median and quartiles of the physics of each cluster."""
    clusters = archive.clusters
    names = [name for name in _PHYSICS if clusters.get(f"{name}_median", pd.Series(dtype=float)).notna().any()]
    if not names:
        return None
    columns = 3
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDE, rows * max(1.6, 0.16 * len(clusters) + 0.7)))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    place = np.arange(len(clusters))
    for axis, name in zip(axes.flat, names, strict=False):
        low, median, high = (clusters[f"{name}_{part}"].to_numpy() for part in ("low", "median", "high"))
        for at, label in zip(place, clusters.index, strict=True):
            axis.plot([low[at], high[at]], [at, at], color=hue(label), linewidth=2.5, solid_capstyle="butt")
            axis.plot(median[at], at, marker=mark(label), color=hue(label), markeredgecolor="black", markersize=4)
        axis.set(xscale="log" if name in _LOGARITHMIC else "linear", yticks=place, yticklabels=clusters.index)
        axis.set_xlabel(heading(name).replace(", ln of last over first half decay", " (ln)"))
    for axis in list(axes.flat)[len(names) :]:
        axis.set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.supylabel("cluster", fontsize="medium")
    parts = [f"{name}_{part}" for name in names for part in ("low", "median", "high")]
    numbers = clusters[["kind", "maps", "scans", *parts]].reset_index()
    return Drawn(figure, numbers, (archive.layout.cluster_summary_path(archive.model),))


def transition_matrix(archive: Archive) -> Drawn | None:
    """How often the label of a q-bin is followed by each other one, from one window to the next."""
    labels = Maps(archive.maps).sequences.labels
    found = sorted({*labels.ravel().tolist()} - {-2})
    if len(labels) < 2 or not found:
        return None
    table = counts(labels[:-1], labels[1:], max(found) + 2)[np.ix_(*[np.array(found) + 1] * 2)]
    with np.errstate(invalid="ignore"):
        share = table / table.sum(axis=1, keepdims=True)
    names = ["none" if label < 0 else str(label) for label in found]
    edge = min(WIDE, max(NARROW, 0.26 * len(found) + 1.2))
    figure = Figure(figsize=(edge, 0.86 * edge), layout="compressed")
    axis = figure.subplots()
    image = axis.imshow(share, vmin=0, vmax=1)
    if len(found) <= 20:
        for (row, column), num in np.ndenumerate(table):
            if num:
                colour = "black" if share[row, column] > 0.6 else "white"
                axis.text(column, row, str(num), ha="center", va="center", fontsize=5.5, color=colour)
    ticks = range(len(found))
    axis.set(xticks=ticks, xticklabels=names, yticks=ticks, yticklabels=names)
    axis.set(xlabel="cluster of the next window", ylabel="cluster of a window")
    axis.tick_params(axis="x", rotation=90 if len(found) > 10 else 0)
    figure.colorbar(image, label="share of the windows of a row", shrink=0.8)
    pairs = [(one, other, table[i, j], share[i, j]) for i, one in enumerate(found) for j, other in enumerate(found)]
    numbers = pd.DataFrame(pairs, columns=["label", "next_label", "windows", "share"])
    return Drawn(figure, numbers, (archive.layout.clusters_path(archive.model),))


def timeline(archive: Archive) -> Drawn | None:
    """The cluster of every map against time, above the columns of the sample log at that time."""
    maps = archive.maps[np.isfinite(archive.maps["time"])].sort_values("time", kind="stable")
    if maps.empty:
        return None
    columns = _logged(archive, maps)
    hours = (maps["time"] - maps["time"].iloc[0]) / 3600
    figure = Figure(figsize=(WIDE, 2.4 + 1.0 * len(columns)))
    heights = [2.4, *[1.0] * len(columns)]
    axes = figure.subplots(1 + len(columns), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    rasterized = len(maps) > _MOST_POINTS
    for label in sorted(set(maps["label"])):
        some = (maps["label"] == label).to_numpy()
        _scatter(axes[0], hours[some], maps["label"][some], label, 6, len(maps))
    known = sorted(set(maps["label"]))
    axes[0].set(ylabel="cluster", yticks=known, yticklabels=["none" if label < 0 else label for label in known])
    for axis, name in zip(axes[1:], columns, strict=True):
        axis.plot(hours, maps[name], ".", color="black", markersize=2, rasterized=rasterized)
        axis.set_ylabel(heading(name))
    start = pd.Timestamp(maps["time"].iloc[0], unit="s").isoformat(sep=" ", timespec="minutes")
    axes[-1].set_xlabel(f"time after {start} UTC (h)")
    figure.align_ylabels(list(axes))
    numbers = maps[["map_id", "time", "label", *columns]].rename(columns={"time": "time_s"})
    products = archive.layout.clusters_path(archive.model), archive.layout.sample_log_path
    return Drawn(figure, numbers, products)


def _scatter(
    axis: Axes, x: pd.Series, y: pd.Series, label: int, size: float, num: int, text: str | None = None
) -> None:
    """The points of one cluster, of `num` points in the figure."""
    is_many = num > _MOST_POINTS
    axis.scatter(x, y, s=size, color=hue(label), marker=mark(label), linewidths=0, rasterized=is_many, label=text)


def _logged(archive: Archive, maps: pd.DataFrame) -> list[str]:
    """The columns of maps that come from the sample log and say anything."""
    names = [str(name) for name in archive.sample_log if name != "time"]
    return [name for name in names if name in maps and is_numeric(maps, name) and maps[name].notna().any()]


def _largest(archive: Archive, num: int) -> list[int]:
    """The labels of the largest clusters, in their order."""
    return sorted(archive.clusters["maps"].nlargest(num, keep="first").index.tolist())


def _kind(archive: Archive, label: int) -> str:
    kind = archive.clusters["kind"].get(label)
    text = "" if pd.isna(kind) else str(kind)
    return text if len(text) <= _LONGEST_KIND else f"{text[:_LONGEST_KIND].rpartition(' ')[0]} …"


OF_ARCHIVES: Mapping[str, Callable[[Archive], Drawn | None]] = {
    "map": whole_map,
    "exemplars": exemplar_grid,
    "physics": cluster_physics,
    "transitions": transition_matrix,
    "timeline": timeline,
}
"""name -> what draws it; None where the archive has nothing of it."""
