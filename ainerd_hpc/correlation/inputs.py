"""The files that corrections need besides the counts: dark, flat field, beam monitor."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ainerd_hpc.config import CorrectConfig, RunConfig
from ainerd_hpc.correlation.selection import Selection
from ainerd_hpc.digests import digest, fingerprint
from ainerd_hpc.errors import ConfigError, ScanError
from ainerd_hpc.formats.beside import monitors
from ainerd_hpc.formats.beside.images import ImagePlace, place_of, read_image
from ainerd_hpc.formats.registry import reader
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content, Scan


class Monitor(NamedTuple):
    """The beam monitor of the frames that are correlated."""

    values: np.ndarray
    """(t,) mean a frame of the file."""
    is_usable: np.ndarray
    """(t,) whether it is above 0 and finite in all frames of the file that make this one."""


def images_digest(config: CorrectConfig, scan: Scan) -> str:
    """Digest of the corrections and the images of a scan, known by name, size and date; not of where they lie.

    Raises
    ------
    ConfigError
        An image does not exist any more.
    """
    images = [_fingerprint("dark", scan.dark), _fingerprint("flat", scan.flat)]
    return digest(config.model_copy(update={"dark": None, "flat": None}), images)


def _fingerprint(key: str, text: str) -> str:
    if not text:
        return ""
    place = place_of(Path(text))
    if not place.path.is_file():
        raise ConfigError(f"correct.{key} {place.path}: no such file; correct the path or leave the key out")
    return fingerprint((place.path,), place.dataset)


def monitor_digest(config: CorrectConfig, scan: Scan) -> str:
    """Digest of the file beside a scan that holds its monitor; empty where a dataset of the scan does."""
    if config.monitor is None or not monitors.is_file(config.monitor):
        return ""
    return fingerprint((monitors.file_of(config.monitor, Path(scan.source)),))


def described(config: CorrectConfig, scan: Scan) -> dict[str, object]:
    """The corrections as a product records them: with the names of files, not with where they lie."""
    images = {key: place_of(Path(text)) for key, text in (("dark", scan.dark), ("flat", scan.flat)) if text}
    names = {key: ":/".join([place.path.name, place.dataset]).removesuffix(":/") for key, place in images.items()}
    return {**config.model_dump(mode="json"), "dark": None, "flat": None, **names}


def load_image(key: str, text: str, scan: Scan) -> np.ndarray | None:
    """A dark or a flat field, (y, x) float64; None where none is given.

    Raises
    ------
    ScanError
        It cannot be read, or has another shape than the frames of the scan.
    """
    if not text:
        return None
    place = place_of(Path(text))
    try:
        stat = place.path.stat()
    except OSError as error:
        raise ScanError(str(place.path), f"cannot read it: {error.strerror}", f"correct correct.{key}") from None
    image = _read(place, stat.st_size, stat.st_mtime_ns)
    if image.shape != (scan.height, scan.width):
        problem = f"expected frames of {image.shape} as in correct.{key} {text}, found {(scan.height, scan.width)}"
        raise ScanError(scan.source, problem, f"give the {key} of this detector")
    return image


@lru_cache(maxsize=4)
def _read(place: ImagePlace, size: int, modified: int) -> np.ndarray:
    image = read_image(place)
    image.flags.writeable = False
    return image


def load_monitor(config: RunConfig, scan: Scan, chosen: Selection) -> Monitor | None:
    """The beam monitor of a scan; None where none is given.

    Raises
    ------
    ScanError
        It is not there, or has another length than the scan.
    """
    if config.correct.monitor is None:
        return None
    path = Path(scan.source)
    metadata = [] if monitors.is_file(config.correct.monitor) else _metadata_paths(config, scan, path)
    values = monitors.read_monitor(config.correct.monitor, path, metadata, scan.num_frames)
    used = values[chosen.first : chosen.first + chosen.num_frames * chosen.span : chosen.stride]
    groups = used.reshape(chosen.num_frames, chosen.average)
    is_usable = ((groups > 0) & np.isfinite(groups)).all(axis=1)
    return Monitor(groups.sum(axis=1) / chosen.average, is_usable)


def _metadata_paths(config: RunConfig, scan: Scan, path: Path) -> list[Path]:
    found = reader(scan.format)
    assert found.content is Content.FRAMES
    with SourceFile(path) as file:
        stem = found.describe(file).stem or path.stem
    return [Path(os.path.normpath(path.parent / one.replace("{stem}", stem))) for one in config.source.metadata]
