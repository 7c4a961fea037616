"""The verb `qmap`: make a partition (q map) from a geometry and masks, or look at one."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainerd_hpc.commands.options import add_debug, count
from ainerd_hpc.console import console
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats.description import Metadata
from ainerd_hpc.formats.partitions.partition import Geometry, QMap, make_qmap, read_qmap, write_partition
from ainerd_hpc.formats.units import unlikely, unlikely_q
from ainerd_hpc.kernels.partitioning import Axis, axis_over, even_axis, given_axis
from ainerd_hpc.publishing import publishing

if TYPE_CHECKING:
    from rich.table import Table

_ROWS_SHOWN = 60
_OPTIONS = {
    "beam_center_x": "--beam-center",
    "beam_center_y": "--beam-center",
    "distance": "--distance",
    "energy": "--energy",
    "pixel_size": "--pixel-size",
}
"""Where the command line takes what a scan does not say."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """What is known of the pixels before they are divided into bins."""

    q: np.ndarray
    """(y, x), 1/angstrom."""
    phi: np.ndarray
    """(y, x), degrees."""
    mask: np.ndarray
    """(y, x) bool, True = use."""
    geometry: Geometry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file, the pixels, the geometry, the masks and the bins."""
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--output", type=Path, metavar="FILE", help="the partition file to be made, <scan>_qmap.hdf")
    task.add_argument("--show", type=Path, metavar="FILE", help="print the bins of a partition file of either layout")
    parser.add_argument(
        "--plot", nargs="?", type=Path, const=Path(), metavar="PNG", help="draw it; default: beside FILE"
    )
    pixels = parser.add_argument_group("pixels").add_mutually_exclusive_group()
    pixels.add_argument("--scan", type=Path, metavar="RAWFILE", help="geometry, shape and dead pixels of this scan")
    pixels.add_argument("--shape", nargs=2, type=count, metavar=("ROWS", "COLUMNS"))
    geometry = parser.add_argument_group("geometry, instead of what the scan says")
    geometry.add_argument("--poni", type=Path, metavar="FILE", help="pyFAI's calibration, of a tilted detector too")
    center = "pixels; a whole number is the middle of a pixel (pyFAI: half a pixel more)"
    geometry.add_argument("--beam-center", nargs=2, type=float, metavar=("X", "Y"), help=center)
    for name, unit in {"distance": "m", "energy": "keV", "pixel-size": "m"}.items():
        geometry.add_argument(f"--{name}", type=float, default=float("nan"), metavar=unit.upper(), help=unit)
    masks = parser.add_argument_group("masks (EDF, .npy, TIFF, HDF5 as FILE or FILE::DATASET), all of which count")
    masks.add_argument(
        "--mask", nargs="+", type=Path, default=[], metavar="FILE", help="not zero: masked (pyFAI, fabio)"
    )
    masks.add_argument("--mask-invert", nargs="+", type=Path, default=[], metavar="FILE", help="not zero: used (APS)")
    bins = parser.add_argument_group("bins")
    q, phi = bins.add_mutually_exclusive_group(), bins.add_mutually_exclusive_group()
    q.add_argument("--q-bins", type=count, default=10, metavar="N", help="default: 10")
    q.add_argument("--q-edges", nargs="+", type=float, metavar="Q", help="1/angstrom")
    bins.add_argument("--q-range", nargs=2, type=float, metavar=("A", "B"), help="default: of all valid pixels")
    bins.add_argument("--spacing", choices=("linear", "log"), default="linear", help="of the q bins; default: linear")
    phi.add_argument("--phi-bins", type=count, default=1, metavar="N", help="default: 1, rings")
    phi.add_argument("--phi-edges", nargs="+", type=float, metavar="PHI", help="degrees: 0 to the right, 90 upwards")
    bins.add_argument("--symmetry", type=count, default=1, metavar="N", help="phi is taken modulo 360 / N")
    bins.add_argument("--static-per-q", type=count, default=10, metavar="N", help="static bins along q; default: 10")
    bins.add_argument("--static-per-phi", type=count, default=1, metavar="N", help="static bins along phi; default: 1")
    parser.add_argument("--legacy", action="store_true", help="write the former layout of the APS, /data")
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Make a partition file, or read one; print its bins, and draw them where that is asked for.

    Raises
    ------
    ConfigError
        The options do not say which pixels there are, where they are, or how to divide them.
    ScanError
        A file cannot be read, or no valid pixel lies in the bins.
    """
    path: Path = options.show or options.output
    qmap = read_qmap(path) if options.show else _make(options)
    if options.output:
        with publishing(path) as temporary:
            write_partition(temporary, qmap, description="ainerd-hpc qmap", legacy=options.legacy)
    _print(path, qmap)
    if options.plot is not None:
        from ainerd_hpc.commands.qmap_picture import draw

        picture = path.with_suffix(".png") if options.plot == Path() else options.plot
        with publishing(picture) as temporary:
            draw(qmap, path.name).save(temporary, "PNG")
        console.print(f"drawn in {picture}", markup=False)


def _make(options: argparse.Namespace) -> QMap:
    pixels = _pixels(options)
    phi_axis, q_axis = _phi_axis(options), _q_axis(options, pixels)
    return make_qmap(pixels.mask, pixels.q, pixels.phi, q_axis, phi_axis, options.symmetry, pixels.geometry)


def _pixels(options: argparse.Namespace) -> Pixels:
    metadata, shape, dead = Metadata(), tuple(options.shape) if options.shape else None, None
    if options.scan:
        metadata, dead = _read_scan(options.scan)
        shape = dead.shape
    pixels = _from_poni(options, shape) if options.poni else _from_geometry(options, shape, metadata)
    masks = [(path, True) for path in options.mask] + [(path, False) for path in options.mask_invert]
    mask = pixels.mask
    if dead is not None:
        mask = mask & _told(dead, options.scan)
    for path, nonzero_is_masked in masks:
        mask = mask & _told(_read_mask(path, nonzero_is_masked, mask.shape), path)
    return replace(pixels, mask=mask)


def _told(mask: np.ndarray, path: Path) -> np.ndarray:
    """The mask, after a line that says how much it masks: one taken the wrong way round is seen at once."""
    num = np.count_nonzero(~mask)
    console.print(f"{path}: masks {num} of {mask.size} pixels ({num / mask.size:.2%})", markup=False)
    return mask


def _read_scan(path: Path) -> tuple[Metadata, np.ndarray]:
    """What is known of a scan, and which of its pixels are neither masked by it nor dead in its first frame (y, x)."""
    from ainerd_hpc.config import CorrectConfig
    from ainerd_hpc.correlation.counts.damaged_frames import ReadableFrames
    from ainerd_hpc.correlation.counts.dead_values import marked
    from ainerd_hpc.formats.detector_pixels import pixels_of
    from ainerd_hpc.formats.registry import describe, reader, scans_of
    from ainerd_hpc.formats.source_file import SourceFile
    from ainerd_hpc.kernels.gather import dead_values
    from ainerd_hpc.types import Content

    with SourceFile(path) as file:
        scan = next(scans_of(file), None)
    found = reader(scan.format) if scan and scan.description else None
    if scan is None or found is None or found.content is not Content.FRAMES:
        reason = (scan.reason if scan else file.fault) or f"{path}: expected frames of a detector, found none"
        raise ConfigError(f"{reason}; name a raw file, or give --shape and the geometry")
    config = CorrectConfig()
    with found.open(path) as frames:
        first = marked(ReadableFrames(frames, config), config).read(0, 1)[0]
        is_dead, mask = dead_values(first), pixels_of(frames).mask
    if mask is not None:
        is_dead |= mask != 0
    return describe(path).metadata, ~is_dead | is_dead.all()


def _read_mask(name: Path, nonzero_is_masked: bool, shape: tuple[int, ...]) -> np.ndarray:
    from ainerd_hpc.formats.partitions.masks import read_mask

    path, _, dataset = str(name).partition("::")
    mask = read_mask(Path(path), dataset, nonzero_is_masked=nonzero_is_masked)
    if mask.shape != shape:
        raise ScanError(path, f"expected a mask of {shape}, found {mask.shape}", "name the mask of this detector")
    return mask


def _from_poni(options: argparse.Namespace, shape: tuple[int, ...] | None) -> Pixels:
    from ainerd_hpc.formats.partitions.poni import read_poni

    if options.beam_center or isfinite(options.distance) or isfinite(options.pixel_size):
        raise ConfigError("--poni has the geometry: leave out --beam-center, --distance and --pixel-size")
    found = read_poni(options.poni, None if shape is None else (shape[0], shape[1]), options.energy)
    return Pixels(found.q, found.phi, found.mask, found.geometry)


def _from_geometry(options: argparse.Namespace, shape: tuple[int, ...] | None, metadata: Metadata) -> Pixels:
    """What the options say, and where they do not, the scan."""
    if shape is None:
        raise ConfigError("how many pixels are there? give --scan RAWFILE, --shape ROWS COLUMNS or --poni FILE")
    x, y = options.beam_center or (float("nan"), float("nan"))
    given = Metadata(
        beam_center_x=x,
        beam_center_y=y,
        distance=options.distance,
        energy=options.energy,
        pixel_size=options.pixel_size,
    ).or_else(metadata)
    known = {name: getattr(given, name) for name in _OPTIONS}
    missing = sorted({option for name, option in _OPTIONS.items() if not isfinite(known[name])})
    if missing:
        source = f"{options.scan} does not say all of it" if options.scan else "there is no --scan to take it from"
        raise ConfigError(f"the geometry is not known, {source}: give {', '.join(missing)}, or --poni FILE")
    geometry = Geometry(**known)
    if min(geometry.pixel_size, geometry.distance, geometry.energy) <= 0.0:
        raise ConfigError(f"expected a distance, an energy and a pixel size above 0, found {geometry}")
    height, width = shape
    return Pixels(geometry.q_map(height, width), geometry.phi_map(height, width), np.ones(shape, bool), geometry)


def _q_axis(options: argparse.Namespace, pixels: Pixels) -> Axis:
    if options.q_edges and options.q_range:
        raise ConfigError("give --q-range or --q-edges, not both")
    edges = np.array(options.q_edges or options.q_range or [0.0, 1.0])
    if (np.diff(edges) <= 0.0).any() or edges[0] < 0.0 or edges.size < 2:
        raise ConfigError(f"expected increasing q, not below 0, found {edges.tolist()}: correct --q-edges or --q-range")
    if options.spacing == "log" and (options.q_edges or options.q_range) and edges[0] <= 0.0:
        raise ConfigError("expected q above 0 for --spacing log: correct --q-edges or --q-range")
    if options.q_edges:
        return given_axis(edges, options.static_per_q, options.spacing)
    num = options.q_bins, options.static_per_q
    if options.q_range:
        return even_axis(float(edges[0]), float(edges[1]), *num, options.spacing)
    try:
        return axis_over(pixels.q, pixels.mask, *num, options.spacing)
    except ValueError as error:
        raise ScanError("mask", str(error), "use less mask, or the other convention: --mask-invert") from None


def _phi_axis(options: argparse.Namespace) -> Axis:
    """The range of phi, -180 to 180 degrees; with symmetry n, where phi is taken modulo 360 / n, from 0 to that."""
    period = 360.0 / options.symmetry
    if not options.phi_edges:
        start = -180.0 if options.symmetry == 1 else 0.0
        return even_axis(start, start + period, options.phi_bins, options.static_per_phi)
    edges = np.array(options.phi_edges)
    if edges.size < 2 or (np.diff(edges) <= 0.0).any() or edges[-1] - edges[0] > period + 1e-9:
        problem = f"expected increasing phi within {period:g} degrees, found {edges.tolist()}"
        raise ConfigError(f"{problem}: correct --phi-edges or --symmetry")
    return given_axis(edges, options.static_per_phi)


def _print(path: Path, qmap: QMap) -> None:
    partition, bins = qmap.partition, qmap.dynamic
    for line in unlikely(asdict(qmap.geometry)) + unlikely_q(partition.dynamic_q_list):
        console.print(line, style="yellow", markup=False)
    has_phi = bool(np.isfinite(partition.dynamic_phi_list).any())
    grid = f"{bins.q.size} q x {bins.phi.size} phi" if has_phi else f"{bins.q.size} q"
    num, total = np.count_nonzero(partition.dynamic_roi_map), partition.mask.size
    table = _table(f"{path}: {grid}, {num} of {total} pixels ({num / total:.1%}), digest {partition.digest}", has_phi)
    pixels = np.bincount(partition.dynamic_roi_map.ravel(), minlength=partition.dynamic_q_list.size + 1)[1:]
    home = np.zeros(partition.static_q_list.size + 1, dtype=np.int64)  # the dynamic label of each static one
    home[partition.static_roi_map] = partition.dynamic_roi_map
    num_static = np.bincount(home[1:], minlength=pixels.size + 1)[1:]
    for q_bin in range(min(pixels.size, _ROWS_SHOWN)):
        phi = (f"{partition.dynamic_phi_list[q_bin]:.5g}",) if has_phi else ()
        q = f"{partition.dynamic_q_list[q_bin]:.6g}"
        table.add_row(str(q_bin), q, *phi, str(pixels[q_bin]), str(num_static[q_bin]))
    console.print(table)
    if pixels.size > _ROWS_SHOWN:
        console.print(f"... and {pixels.size - _ROWS_SHOWN} more")
    for note in partition.notes:
        console.print(note, style="yellow", markup=False)
    empty = bins.q.size * bins.phi.size - pixels.size
    if empty:
        console.print(f"{empty} bins hold no pixel and have no label")


def _table(title: str, has_phi: bool) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("q_bin", "q 1/angstrom", *(("phi degrees",) if has_phi else ()), "pixels", "static bins"):
        table.add_column(column, justify="right", no_wrap=True)
    return table
