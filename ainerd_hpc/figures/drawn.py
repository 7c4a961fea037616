"""A figure with its numbers, how figures look, and how they are written: the same products, the same bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ainerd_hpc.errors import ConfigError
from ainerd_hpc.publishing import publishing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#1d4bba", "#dca600", "#169079", "#ce5cbe", "#28a4ff", "#ad1411", "#5d396c", "#8d8f00")
"""The colours of clusters, those of the page: they stay apart for colour-blind eyes; beyond eight the mark changes."""
NOISE = "#b4bbc4"
_MARKS = ("o", "s", "^", "D")
SEQUENTIAL = "viridis"
"""Colours of what is ordered: even to the eye, readable in grey."""
WIDE, NARROW = 7.0, 3.4
"""Widths of two columns and of one, inches."""
_STYLE: Mapping[str, Any] = {
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "image.cmap": SEQUENTIAL,
}
"""Text stays text in a PDF (fonts of type 42)."""
_DATELESS: Mapping[str, Mapping[str, Any]] = {".pdf": {"CreationDate": None}, ".png": {}}


@dataclass(frozen=True)
class Drawn:
    """A figure, the numbers that it shows, and what it was made of."""

    figure: Figure
    numbers: pd.DataFrame
    """A row a point, bar or pixel; units in the names of columns."""
    made_of: tuple[Path, ...]
    """Products of the archive."""


def hue(label: int) -> str:
    """The colour of a cluster; -1 is noise."""
    return NOISE if label < 0 else PALETTE[label % len(PALETTE)]


def mark(label: int) -> str:
    """The mark of a cluster."""
    return _MARKS[max(label, 0) // len(PALETTE) % len(_MARKS)]


@contextlib.contextmanager
def styled(style: Path | None) -> Iterator[None]:
    """How figures look while the block lasts; a style file (mplstyle) overrides it.

    Raises
    ------
    ConfigError
        There is no such file, or it is none of a style.
    """
    import matplotlib

    given: Any = {}
    settings: Any = matplotlib.rcParams
    if style is not None:
        try:
            given = matplotlib.rc_params_from_file(style, use_default_template=False)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"--style {style}: expected a style file of matplotlib, {reason}; correct it") from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings.update(_STYLE)
        settings.update(given)
        yield


def write(drawn: Drawn, stem: Path) -> list[Path]:
    """Publish a figure as PDF and PNG, and its numbers as CSV."""
    written = []
    for suffix, metadata in _DATELESS.items():
        with publishing(stem.with_name(stem.name + suffix)) as temporary:
            drawn.figure.savefig(temporary, format=suffix[1:], metadata=dict(metadata))
        written.append(stem.with_name(stem.name + suffix))
    table = stem.with_name(f"{stem.name}.csv")
    with publishing(table) as temporary:
        drawn.numbers.to_csv(temporary, index=False, lineterminator="\n", float_format="%.8g", encoding="utf-8")
    return [*written, table]
