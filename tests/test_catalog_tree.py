"""A whole tree of scans with faults planted in it: each is told in one line, and no good scan is lost."""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import re
import shutil
import stat
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import yaml

from ainerd_hpc.cli import main
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.discovery import Discovery, discover
from ainerd_hpc.formats import walk as walking
from ainerd_hpc.tables import read_table
from tests import test_formats_image_series as series
from tests import test_results as results
from tests.archive_tree import KINDS, Expected, Tree, frames_of, make_tree, write_qmap
from tests.test_formats_aps import DIRECT

FRAMES, FRAME_TIME = "entry/data/data", "entry/instrument/detector_1/frame_time"
IS_ROOT = os.geteuid() == 0


class Spot(NamedTuple):
    """Where a fault is planted; called with a suffix it gives the path of a file of its scan."""

    folder: Path
    stem: str
    good: Path
    """Raw file of another scan, which comes earlier."""
    outside: Path
    """A folder that is no part of the tree."""

    def __call__(self, suffix: str) -> Path:
        return self.folder / f"{self.stem}{suffix}"


@dataclass(frozen=True)
class Fault:
    name: str
    letter: str
    """Kind of the good scan that is damaged; empty: there is none."""
    damage: Callable[[Spot], object]
    reason: str
    """What is to be said; STEM: name of the scan."""
    suffix: str = ""
    """Of the name in the scan_id."""
    missed: str = ""
    """Why it is not told yet."""


def cut(path: Path, size: int) -> None:
    """To this size; negative: so many bytes less."""
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def put(path: Path, **content: Any) -> None:
    """Replace datasets, of which slashes are written as two underscores; None takes one out."""
    with h5py.File(path, "a") as file:
        for name, value in content.items():
            target = name.replace("__", "/")
            if target in file:
                del file[target]
            if value is not None:
                file[target] = value


def raw(path: Path, **layout: Any) -> None:
    """A raw file with other frames; without data nothing is written of them."""
    with h5py.File(path, "w") as file:
        file.create_dataset(FRAMES, **layout)


def frame_time(value: object) -> Callable[[Spot], None]:
    return lambda at: put(at("_metadata.hdf"), **{FRAME_TIME: value})


def claim(path: Path) -> None:
    """A dataset of 10^6 x 4096 x 4096 counts, in a file of some kB."""
    raw(path, shape=(10**6, 4096, 4096), dtype="u2", chunks=(1, 4096, 4096))


def write_partly(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset(FRAMES, (12, 12, 16), "u2", chunks=(1, 12, 16))
        for number in range(8):
            data[number] = number


def lead_outside(at: Spot, way: str) -> None:
    """Frames in a file outside of the tree."""
    at.outside.mkdir(exist_ok=True)
    secret, count = at.outside / "secret.h5", 2 * 12 * 12 * 16
    raw(secret, data=frames_of(12, 12, 16))
    (at.outside / "secret.raw").write_bytes(bytes(count))
    with h5py.File(at(".h5"), "w") as file:
        if way == "link":
            file[FRAMES] = h5py.ExternalLink(str(secret), FRAMES)
        elif way == "virtual":
            layout = h5py.VirtualLayout((12, 12, 16), "u2")
            layout[...] = h5py.VirtualSource(str(secret), FRAMES, (12, 12, 16))
            file.create_virtual_dataset(FRAMES, layout)
        else:
            external = [(str(at.outside / "secret.raw"), 0, count)]
            file.create_dataset(FRAMES, (12, 12, 16), "u2", external=external)


def link_to(at: Spot, link: Callable[[Path, Path], object]) -> None:
    at(".h5").unlink()
    link(at.good, at(".h5"))


def rename(at: Spot, to: bytes) -> None:
    """The raw file, and its metadata with it."""
    for path in (at(".h5"), at("_metadata.hdf")):
        name = os.fsencode(path.name).replace(at.stem.encode(), to)
        os.rename(os.fsencode(path), os.fsencode(path.parent) + b"/" + name)


def cut_and_rename(at: Spot) -> None:
    cut(at(".h5"), 3000)
    rename(at, at.stem.encode() + WEIRD.encode())


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def pickled(at: Spot) -> None:
    np.save(at(".npy"), np.array([[Bomb(at.outside.with_name("exploded"))] * 20] * 20), allow_pickle=True)


def one_image_wider(at: Spot) -> None:
    at("_0002.edf").write_bytes(series.edf(np.ones((9, 14), "<u2")))


def without_shape(at: Spot) -> None:
    with h5py.File(at(".h5"), "a") as file:
        del file.attrs["frames_shape"]


def across(at: Spot) -> None:
    """Static label 2 on both sides of the border."""
    static = np.full((4, 6), 2, np.uint8)
    static[:, 0] = 1
    write_qmap(at("_qmap.hdf"), (4, 6), static_roi_map=static)


WEIRD = "\n\x1b[31mred\x1b]0;title\a"
"""A line break, a colour, and a title of the window."""
METADATA, QMAP = r"STEM_metadata\.hdf", r"STEM_qmap\.hdf:/qmap"
PERIOD = rf"{METADATA}:/{FRAME_TIME}: expected"
ELSEWHERE = rf"STEM\.h5:/{FRAMES}: expected links to files below \S+.*, found \S+/outside/secret"
AGAIN = r"STEM\.h5: expected every scan once, found the data of \S.*L\d{4}\.h5 again; take one of them out"
FAULTS = [
    Fault("truncated HDF5", "L", lambda at: cut(at(".h5"), 3000), r"STEM\.h5: cannot read it: .*truncated file"),
    Fault("HDF5 without a byte", "L", lambda at: cut(at(".h5"), 0), r"STEM\.h5: cannot read it: it is empty"),
    Fault(".bin without a byte", "R", lambda at: cut(at(".bin"), 0), r"STEM\.bin: expected events of 8 bytes each, found 0"),
    Fault("IMM without a byte", "I", lambda at: cut(at(".imm"), 0), r"STEM\.imm frame 0: expected a header of 1024 bytes, found 0"),
    Fault("EDF without a byte", "G", lambda at: cut(at(".edf"), 0), r"STEM\.edf: cannot read it: it is empty"),
    Fault(".npy without a byte", "N", lambda at: cut(at(".npy"), 0), r"STEM\.npy: cannot read it: "),
    Fault(".bin cut in a word", "R", lambda at: cut(at(".bin"), -3), r"STEM\.bin: expected events of 8 bytes each, found 197 "),
    Fault("sparse IMM cut in a frame", "I", lambda at: cut(at(".imm"), -5), r"STEM\.imm frame 4: expected 24 bytes of events, found 19 "),
    Fault("dense IMM cut in a frame", "J", lambda at: cut(at(".imm"), -5), r"STEM\.imm frame 4: expected frames of 1108 bytes, found 1103 "),
    Fault("missing module", "M", lambda at: at(".bin.003").unlink(), r"STEM\.bin\.003: expected this file of the six of a 3M scan, found none", ".bin"),
    Fault("module cut off", "M", lambda at: cut(at(".bin.002"), 8 * 120), r"STEM\.bin\.002: expected about 1\d\d more events up to frame 4, .*, found none after frame 1", ".bin"),
    Fault("no metadata", "L", lambda at: at("_metadata.hdf").unlink(), r"STEM\.h5: expected a frame period in the scan or its metadata file, found none; give source\.frame_time, "),
    Fault("truncated metadata", "L", lambda at: cut(at("_metadata.hdf"), 700), rf"{METADATA}: cannot read it: .*truncated file"),
    Fault("frame_time NaN", "L", frame_time(float("nan")), rf"{PERIOD} a period above 0 s, found nan"),
    Fault("frame_time 0", "L", frame_time(0.0), rf"{PERIOD} a period above 0 s, found 0\.0"),
    Fault("frame_time a text", "L", frame_time("fast"), rf"{PERIOD} .*, found .*fast"),
    Fault("frame_time an array", "L", frame_time([0.1, 0.2]), rf"{PERIOD} one value, found float64 \(2,\)"),
    Fault("num_capture", "L", lambda at: put(at("_metadata.hdf"), entry__instrument__bluesky__metadata__num_capture=100), r"STEM\.h5: expected 100 frames as in its metadata, found 12;"),
    Fault("q map of another shape", "O", lambda at: write_qmap(at("_qmap.hdf"), (5, 6)), r"STEM\.h5: expected frames of \(5, 6\) as in \S.*STEM_qmap\.hdf, found \(4, 6\); give the partition file"),
    Fault("transposed q map", "O", lambda at: write_qmap(at("_qmap.hdf"), (6, 4)), r"STEM\.h5: expected frames of \(6, 4\) as in \S.*STEM_qmap\.hdf, found \(4, 6\), which is transposed;"),
    Fault("q map with a q of NaN", "O", lambda at: write_qmap(at("_qmap.hdf"), (4, 6), dynamic_v_list_dim0=[0.01, np.nan]), rf"{QMAP}/dynamic_v_list_dim0: expected finite q, found NaN"),
    Fault("static label across a border", "O", across, rf"{QMAP}/static_roi_map: expected every static label inside one dynamic label, found static label 2 across"),
    Fault("copy", "L", lambda at: shutil.copy(at.good, at(".h5")), AGAIN),
    Fault("symbolic link to a scan", "L", lambda at: link_to(at, lambda old, new: new.symlink_to(old)), AGAIN),
    Fault("hard link to a scan", "L", lambda at: link_to(at, os.link), AGAIN),
    Fault("dangling link", "L", lambda at: link_to(at, lambda old, new: new.symlink_to("nowhere.h5")), r"STEM\.h5: expected a file behind the link, found none;"),
    Fault("name outside of UTF-8", "L", lambda at: rename(at, at.stem.encode() + b"\xff"), r"STEM\\udcff\.h5: expected a path in UTF-8, which the catalog can hold, found 'STEM\\udcff\.h5'; rename", "_~HASH"),
    Fault("name with a line break and escapes", "L", cut_and_rename, r"STEM\\n\\x1b\[31mred\\x1b\]0;title\\x07\.h5: cannot read it: .*truncated file", "__[31mred_]0;title_"),
    Fault(".npy with a pickle", "N", pickled, r"STEM\.npy: cannot read it: it holds Python objects, and unpickling these could run any program;"),
    Fault("truncated .npy", "N", lambda at: cut(at(".npy"), -1000), r"STEM\.npy: cannot read it: "),
    Fault("external link to the outside", "L", lambda at: lead_outside(at, "link"), ELSEWHERE),
    Fault("virtual source outside", "L", lambda at: lead_outside(at, "virtual"), ELSEWHERE),
    Fault("external storage outside", "L", lambda at: lead_outside(at, "storage"), ELSEWHERE),
    Fault("frames that were never written", "L", lambda at: claim(at(".h5")), rf"STEM\.h5:/{FRAMES}: expected 1000000 frames, found 0 that were written;"),
    Fault("frames of which a third is missing", "L", lambda at: write_partly(at(".h5")), rf"STEM\.h5:/{FRAMES}: expected 12 frames, found 8 that were written;"),
    Fault("Eiger without a data file", "E", lambda at: at("_data_000002.h5").unlink(), r"STEM_master\.h5:/entry/data/data_000002: expected the linked file \S.*STEM_data_000002\.h5, found none;", "_master"),
    Fault("Eiger with another nimages", "E", lambda at: put(at("_master.h5"), entry__instrument__detector__detectorSpecific__nimages=9), r"STEM_master\.h5: expected 9 frames \(nimages x ntrigger\), found 8;", "_master"),
    Fault("Eiger data file of another shape", "E", lambda at: raw(at("_data_000002.h5"), data=frames_of(4, 8, 13)), rf"STEM_data_000002\.h5:/{FRAMES}: expected frames of uint16 \(8, 12\) as in \S.*STEM_data_000001\.h5:/{FRAMES}, found uint16 \(8, 13\);", "_master"),
    Fault("gap in a series", "F", lambda at: at("_0002.edf").unlink(), r"STEM_0003\.edf: expected number 2 after STEM_0001\.edf, found 3;", "_0000"),
    Fault("image of another shape", "F", one_image_wider, r"STEM_0002\.edf: expected uint16 \(9, 13\) as in STEM_0000\.edf, found uint16 \(9, 14\);", "_0000"),
    Fault("truncated image", "F", lambda at: cut(at("_0002.edf"), -100), r"STEM_0002\.edf: cannot read it: expected 234 bytes of pixels at 512, found 134;", "_0000"),
    Fault("Timepix", "", lambda at: at(".tpx").write_bytes(b"TPX4" * 100), r"STEM\.tpx: expected a format with a published layout, found Timepix4 events"),
    Fault("sparse without its shape", "S", without_shape, r"STEM\.h5:/: expected the attribute frames_shape of three integers \(t, y, x\), found None;"),
    Fault("sparse with a pointer beyond its events", "S", lambda at: put(at(".h5"), frame_pointer=[0, 4, 4, 4, 4, 4, 4, 4, 900]), r"STEM\.h5:/frame_pointer: expected ascending numbers from 0 to 5, found 0 to 900;"),
    Fault("complex frames", "L", lambda at: raw(at(".h5"), data=np.ones((12, 12, 16), "c8")), rf"STEM\.h5:/{FRAMES}: expected counts \(t, y, x\), found complex64 \(12, 12, 16\);"),
    Fault("no frame", "L", lambda at: raw(at(".h5"), shape=(0, 12, 16), dtype="u2", chunks=(1, 12, 16), maxshape=(None, 12, 16)), rf"STEM\.h5:/{FRAMES}: expected counts \(t, y, x\), found uint16 \(0, 12, 16\);"),
    Fault("result with g2 alone", "W", lambda at: put(at(".hdf"), xpcs__twotime=None), r"STEM\.hdf: expected two-time maps, found g2 only;"),
    Fault("C2 of several shapes", "W", lambda at: put(at(".hdf"), xpcs__twotime__correlation_map__c2_00002=np.ones((23, 23), "f4")), r"STEM\.hdf:/xpcs/twotime/correlation_map/c2_00002: expected two-time maps of \(24, 24\) real numbers, found float32 \(23, 23\);"),
]
