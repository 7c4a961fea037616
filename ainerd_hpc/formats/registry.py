"""The readers of source files, one module a format, found by content.

To add a format, write a module with its reader (`formats.reader` says what that is) and add a line to `READERS`; the
first reader that matches a file reads it. Other distributions register theirs by entry points of the group
`ainerd_hpc.readers`, `name = "module:attribute"`. These are asked first: who installs one means it for its files, and
some of the readers here take any square array, or any words that could be events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, cast

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.numbering import contradiction
from ainerd_hpc.formats.reader import Reader, checked
from ainerd_hpc.formats.suffixes import HDF5_SUFFIXES, RAW_SUFFIXES
from ainerd_hpc.types import Content

if TYPE_CHECKING:
    import h5py

    from ainerd_hpc.formats.description import Description, Metadata
    from ainerd_hpc.formats.source_file import SourceFile

READERS = {
    "aps-result": "ainerd_hpc.formats.results.aps:ApsResult",
    "legacy-result": "ainerd_hpc.formats.results.legacy:LegacyResult",
    "esrf-result": "ainerd_hpc.formats.results.legacy:EsrfResult",
    "nxxpcs": "ainerd_hpc.formats.results.nxxpcs:NxXpcs",
    "esrf-sparse": "ainerd_hpc.formats.events.esrf_sparse:EsrfSparse",
    "eiger-hdf5": "ainerd_hpc.formats.frames.eiger:EigerHdf5",
    "aps-hdf5": "ainerd_hpc.formats.frames.aps:ApsHdf5",
    "esrf-hdf5": "ainerd_hpc.formats.frames.arrays:EsrfHdf5",
    "imm": "ainerd_hpc.formats.events.imm:Imm",
    "rigaku": "ainerd_hpc.formats.events.rigaku:Rigaku",
    "timepix4": "ainerd_hpc.formats.events.timepix:Timepix",
    "image-series": "ainerd_hpc.formats.images.series:ImageSeries",
    "ainerd-frames": "ainerd_hpc.formats.zarr.arrays:AinerdFrames",
    "c2-hdf5": "ainerd_hpc.formats.results.c2_maps:C2Hdf5",
    "c2-npy": "ainerd_hpc.formats.results.c2_maps:C2Npy",
    "ainerd2024": "ainerd_hpc.formats.results.ainerd2024:Ainerd2024",
}
FRAMES = "entry/data/data"
"""Where most HDF5 files have their frames."""
_ARRAYS = {
    "hdf5-array": "ainerd_hpc.formats.frames.arrays:Hdf5Array",
    "zarr-array": "ainerd_hpc.formats.zarr.arrays:ZarrArray",
}
"""Readers of an array whose path is given, `hdf5-array:<path>`."""
_AT = re.compile(r"(.*)@(\d+)")
_GROUP = "ainerd_hpc.readers"


def reader(name: str) -> Reader:
    """The reader of a format, imported now; `<array format>:<path>` for that of an array in any file, and
    `<format>@<number>` for that of another threshold than the first.

    Raises
    ------
    ScanError
        There is none of this name: the distribution that registered it is not installed here.
    """
    if threshold := _AT.fullmatch(name):
        return cast("Reader", AtThreshold(reader(threshold[1]), int(threshold[2])))
    kind, _, path = name.partition(":")
    if kind in _ARRAYS:
        return cast("Reader", resolve_name(_ARRAYS[kind])(path))
    if name in READERS:
        return cast("Reader", resolve_name(READERS[name]))
    if name in _registered():
        return _registered()[name][0]
    problem = "expected a reader of this format, found none"
    raise ScanError(f"format {name}", problem, "install the package that it came with, on every node")


class AtThreshold:
    """Reader of the frames of one threshold of a detector with several: the others are described alike."""

    content = Content.FRAMES

    def __init__(self, found: Any, threshold: int) -> None:
        self.name = f"{found.name}@{threshold}"
        self.matches, self.describe = found.matches, found.describe
        self.open = partial(found.open, threshold=threshold)


def registered() -> str:
    """Names, distributions and versions of the readers that others have registered; empty without any."""
    return ", ".join(f"{name} of {origin}" for name, (_, origin) in _registered().items())


def left_out() -> Sequence[str]:
    """A line on each reader that others have registered and that is of no use."""
    return _entries()[1]


def _registered() -> Mapping[str, tuple[Reader, str]]:
    """Readers of other distributions with their origin, by name."""
    return _entries()[0]


@lru_cache(maxsize=1)
def _entries() -> tuple[Mapping[str, tuple[Reader, str]], Sequence[str]]:
    found: dict[str, tuple[Reader, str]] = {}
    faults = []
    for entry in sorted(entry_points(group=_GROUP), key=lambda entry: (entry.name, _origin(entry))):
        try:
            if entry.name in {*READERS, *_ARRAYS, *found}:
                raise ValueError("there is one of this name")
            found[entry.name] = checked(entry.load(), entry.name), _origin(entry)
        except (Exception, SystemExit) as error:  # whatever others do when they are imported
            text = " ".join(str(error).split()) or type(error).__name__
            reason = "it ends the process" if isinstance(error, SystemExit) else text
            faults.append(f"reader '{entry.name}' of {_origin(entry)}: left out, {reason}; update or uninstall it")
    return found, faults


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


@dataclass(frozen=True, slots=True)
class FoundScan:
    """A scan before it has its id."""

    path: Path
    format: str
    part: str = ""
    """Name of the scan in a file of several."""
    description: Description | None = None
    reason: str = ""
    """Why it is no scan after all."""

    @property
    def companions(self) -> tuple[Path, ...]:
        """Files that belong to it besides its own."""
        return self.description.companions if self.description else ()

    @property
    def may_change(self) -> bool:
        """Whether it may become another one while its own file stays the same."""
        return bool(self.reason or (self.description and self.description.unfinished))


def describe(path: Path) -> Description:
    """Shape and metadata of the one scan of a file, by the reader that knows it.

    Raises
    ------
    ScanError
        No reader knows the file, or it or its metadata file is damaged.
    """
    from ainerd_hpc.formats.beside.metadata import find_metadata, read_metadata
    from ainerd_hpc.formats.source_file import SourceFile

    with SourceFile(path) as file:
        scan = next(scans_of(file), FoundScan(path, "unknown"))
    if scan.description is None:
        raise ScanError(str(path), scan.reason or "expected a scan, found another file", "take it out of the folder")
    beside = find_metadata(path, scan.description.stem or path.stem)
    return scan.description if beside is None else with_metadata(scan.description, beside, read_metadata(beside))


def scans_of(file: SourceFile, dataset: str = "") -> Iterator[FoundScan]:
    """The scans that a file holds, by the first reader that knows it; one with a reason where the file is damaged.

    `dataset`: path of an array in the file that is taken for frames, whatever else there is.
    """
    arrays = [f"{kind}:{dataset}" for kind in _ARRAYS] if dataset else []
    name = next((name for name in (*arrays, *_registered(), *READERS) if _matches(name, file)), "")
    if not name:
        if reason := _fault(file):
            yield FoundScan(file.path, "unknown", reason=reason)
        return
    found = reader(name)
    try:
        if found.content is Content.LATENTS:
            for part, description in found.describe_all(file.path).items():
                yield FoundScan(file.path, name, part, description)
        else:
            yield FoundScan(file.path, name, description=found.describe(file))
    except ScanError as error:
        yield FoundScan(file.path, name, reason=str(error))


def _matches(name: str, file: SourceFile) -> bool:
    """Whether a reader knows the file; one of others that fails over it does not keep it from the next."""
    try:
        return reader(name).matches(file)
    except Exception as error:
        if name not in _registered():
            raise
        file.fault = f"reader {name}: {type(error).__name__}: {' '.join(str(error).split())}"
        return False


def with_metadata(description: Description, path: Path, metadata: Metadata) -> Description:
    """What the metadata file says, or else the scan itself: a mended metadata file is the last word.

    Not so for two-time maps, whose frames may be averages of those that the metadata file is about.
    """
    is_raw = description.num_q_bins == 0
    merged = metadata.or_else(description.metadata) if is_raw else description.metadata.or_else(metadata)
    periods = metadata.frame_time, description.metadata.frame_time
    notes = description.notes + (contradiction(*periods, description.num_frames) if is_raw else ())
    return replace(description, metadata=merged, companions=(*description.companions, path), notes=notes)


def _fault(file: SourceFile) -> str:
    """Why a file cannot be opened as what its suffix says; empty where it can, or where that matters to no reader."""
    from ainerd_hpc.formats.hdf5.reading import reading

    suffix = file.path.suffix.lower()
    if suffix not in RAW_SUFFIXES:
        return ""
    if file.hdf5 is not None and not file.fault:
        try:
            with reading(str(file.path)):
                return _unknown_frames(file.path, file.hdf5)
        except ScanError as error:
            return str(error)
    if suffix == ".npy" and file.fault:
        return file.fault
    wrong = "it is empty" if not file.head and not file.fault else "it is not HDF5" if suffix in HDF5_SUFFIXES else ""
    problem = file.fault or wrong
    return str(file.unreadable(f"cannot read it: {problem}")) if problem else ""


def _unknown_frames(path: Path, hdf5: h5py.File) -> str:
    """What an HDF5 file holds that looks like frames where no reader looks for them; empty where nothing does."""
    from ainerd_hpc.formats.hdf5.frames import NO_FRAMES

    found: list[tuple[str, Any]] = []
    hdf5.visititems(lambda name, item: found.append((name, item)) if _looks_like_frames(name, item) else None)
    if not found:
        return ""
    name, item = found[0]
    if name == FRAMES:
        return str(
            ScanError(f"{path}:/{name}", f"expected counts (t, y, x), found {item.dtype} {item.shape}", NO_FRAMES)
        )
    problem = f"expected frames at a place that is known, found {item.dtype} {item.shape} at /{name}"
    return str(ScanError(str(path), problem, "name the array in source.dataset, or take the file out of the folder"))


def _looks_like_frames(name: str, item: Any) -> bool:
    """Whether this is where frames are, or counts of several images."""
    shape, kind = getattr(item, "shape", None) or (), getattr(getattr(item, "dtype", None), "kind", "")
    return kind in "uif" and bool(kind) and (name == FRAMES or (len(shape) > 2 and kind != "f" and min(shape[-3:]) > 1))
