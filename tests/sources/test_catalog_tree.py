"""A whole tree of scans with faults planted in it: each is told in one line, and no good scan is lost."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.cli import main
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.formats.partitions.partition import read_partition
from ainerd_hpc.sources import walk as walking
from ainerd_hpc.sources.discovery import Discovery, discover
from ainerd_hpc.sources.walk import FileRecord
from benchmarks import catalog as benchmark
from benchmarks.catalog import counted_opens
from tests.formats import test_arrays as arrays
from tests.formats import test_eiger as eiger
from tests.formats import test_esrf_sparse as esrf
from tests.formats import test_image_series as series
from tests.formats import test_imm as imm
from tests.formats import test_rigaku as rigaku
from tests.formats.test_aps import some_metadata
from tests.support.archive_tree import DATASET, KINDS, Tree, frames_of, make_tree, write_qmap
from tests.support.correlation_truth import Arrays, assert_same, assert_true, read_arrays, truth

WITHOUT_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""Root may read everything, but not in such a process."""
FRAMES, FRAME_TIME = "entry/data/data", "entry/instrument/detector_1/frame_time"
SHAPE = (12, 12, 16)

# ------------------------------------------------------------------------------------------------------ the faults


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


Damage = Callable[[Spot], object]


def cut(suffix: str, size: int) -> Damage:
    """To this size; negative: so many bytes less."""
    return lambda at: os.truncate(at(suffix), size if size >= 0 else at(suffix).stat().st_size + size)


def drop(suffix: str) -> Damage:
    return lambda at: at(suffix).unlink()


def put(suffix: str, name: str, value: object) -> Damage:
    """Replace a dataset of an HDF5 file; None takes it out."""

    def damage(at: Spot) -> None:
        with h5py.File(at(suffix), "a") as file:
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value

    return damage


def raw(suffix: str, **layout: Any) -> Damage:
    """A raw file of other frames; without data none is written."""

    def damage(at: Spot) -> None:
        with h5py.File(at(suffix), "w") as file:
            file.create_dataset(FRAMES, **layout)

    return damage


def q_map(shape: tuple[int, int] = (4, 6), **changes: Any) -> Damage:
    return lambda at: write_qmap(at("_qmap.hdf"), shape, **changes)


def write_two_thirds(at: Spot) -> None:
    with h5py.File(at(".h5"), "w") as file:
        data = file.create_dataset(FRAMES, SHAPE, "u2", chunks=(1, *SHAPE[1:]))
        for number in range(8):
            data[number] = number


def lead_outside(way: str) -> Damage:
    """Frames in a file outside of the tree."""

    def damage(at: Spot) -> None:
        at.outside.mkdir(exist_ok=True)
        secret, size = at.outside / f"{way}.h5", 2 * int(np.prod(SHAPE))
        with h5py.File(secret, "w") as file:
            file[FRAMES] = frames_of(*SHAPE)
        with h5py.File(at(".h5"), "w") as file:
            if way == "link":
                file[FRAMES] = h5py.ExternalLink(str(secret), FRAMES)
            elif way == "source":
                layout = h5py.VirtualLayout(SHAPE, "u2")
                layout[...] = h5py.VirtualSource(str(secret), FRAMES, SHAPE)
                file.create_virtual_dataset(FRAMES, layout)
            else:
                file.create_dataset(FRAMES, SHAPE, "u2", external=[(str(secret), 2048, size)])

    return damage


def replaced_by(link: Callable[[Path, Path], object]) -> Damage:
    """The raw file by a copy or a link."""

    def damage(at: Spot) -> None:
        at(".h5").unlink()
        link(at.good, at(".h5"))

    return damage


def renamed(more: bytes) -> Damage:
    """The raw file, and its metadata with it, with more at the end of the name."""

    def damage(at: Spot) -> None:
        for suffix in (".h5", "_metadata.hdf"):
            os.rename(at(suffix), os.fsencode(at("")) + more + suffix.encode())

    return damage


def both(*damages: Damage) -> Damage:
    return lambda at: [damage(at) for damage in damages]


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def pickled(at: Spot) -> None:
    np.save(at(".npy"), np.array([[Bomb(at.outside.with_name("exploded"))] * 20] * 20), allow_pickle=True)


def without_shape(at: Spot) -> None:
    with h5py.File(at(".h5"), "a") as file:
        del file.attrs["frames_shape"]


@dataclass(frozen=True)
class Fault:
    name: str
    letter: str
    """Kind of the good scan that is damaged; empty: there is none."""
    damage: Damage
    reason: str
    """What is to be said; STEM: name of the scan."""
    more: str = ""
    """Of the name in the scan_id."""


ACROSS = np.where(np.arange(6) < 1, 1, 2) * np.ones((4, 1), np.uint8)
WEIRD = "\n\x1b[31mred\x1b]0;title\a"
"""A line break, a colour, and a title of the window."""
BEYOND = [0, 4, 4, 4, 4, 4, 4, 4, 900]
H5, METADATA, QMAP = r"STEM\.h5", r"STEM_metadata\.hdf", r"STEM_qmap\.hdf:/qmap"
IN_H5, PERIOD = rf"{H5}:/{FRAMES}: expected", rf"{METADATA}:/{FRAME_TIME}: expected"
ELSEWHERE = rf"{IN_H5} links to files below \S.*, found \S.*/outside/"
AGAIN = rf"{H5}: expected every scan once, found the data of \S.*L\d{{4}}\.h5 again; take one of them out"
MAP = r"STEM\.hdf:/xpcs/twotime/correlation_map/c2_00002"
DATA = rf"_data_00000%d\.h5:/{FRAMES}"
FAULTS = [
    Fault("HDF5 cut off", "L", cut(".h5", 3000), rf"{H5}: cannot read it: .*truncated file"),
    Fault("HDF5 without a byte", "L", cut(".h5", 0), rf"{H5}: cannot read it: it is empty;"),
    Fault(".bin without a byte", "R", cut(".bin", 0), r"STEM\.bin: expected events of 8 bytes each, found 0 "),
    Fault("IMM without a byte", "I", cut(".imm", 0), r"STEM\.imm frame 0: expected a header of 1024 bytes, found 0 "),
    Fault("EDF without a byte", "G", cut(".edf", 0), r"STEM\.edf: cannot read it: it is empty;"),
    Fault(".npy without a byte", "N", cut(".npy", 0), r"STEM\.npy: cannot read it: .*expected a \.npy file, found one"),
    Fault(".bin cut in a word", "R", cut(".bin", -3), r"STEM\.bin: expected events of 8 bytes each, found 197 bytes;"),
    Fault(
        "sparse IMM cut in a frame",
        "I",
        cut(".imm", -5),
        r"STEM\.imm frame 4: expected 24 bytes of events, found 19 to the end of the file;",
    ),
    Fault(
        "dense IMM cut in a frame",
        "J",
        cut(".imm", -5),
        r"STEM\.imm frame 4: expected frames of 1108 bytes, found 1103 bytes at the end of the file;",
    ),
    Fault(
        "missing module",
        "M",
        drop(".bin.003"),
        r"STEM\.bin\.003: expected this file of the six of a 3M scan, found none; copy it beside the others",
        ".bin",
    ),
    Fault(
        "module cut off",
        "M",
        cut(".bin.002", 8 * 120),
        r"STEM\.bin\.002: expected about 1\d\d more events up to frame 4, .*, found none after frame 1;",
        ".bin",
    ),
    Fault(
        "no metadata",
        "L",
        drop("_metadata.hdf"),
        rf"{H5}: expected a frame period in the scan or its metadata file, found none; give source\.frame_time, or",
    ),
    Fault("metadata cut off", "L", cut("_metadata.hdf", 700), rf"{METADATA}: cannot read it: .*truncated file"),
    Fault("NaN", "L", put("_metadata.hdf", FRAME_TIME, np.nan), rf"{PERIOD} a period above 0 s, found nan;"),
    Fault("period 0", "L", put("_metadata.hdf", FRAME_TIME, 0.0), rf"{PERIOD} a period above 0 s, found 0\.0;"),
    Fault(
        "period a text",
        "L",
        put("_metadata.hdf", FRAME_TIME, "fast"),
        rf"{PERIOD} .*, found .*fast",
    ),
    Fault("array", "L", put("_metadata.hdf", FRAME_TIME, [0.1, 1]), rf"{PERIOD} one value, found float64 \(2,\);"),
    Fault(
        "num_capture",
        "L",
        put("_metadata.hdf", "entry/instrument/bluesky/metadata/num_capture", 100),
        rf"{H5}: expected 100 frames as in its metadata, found 12;",
    ),
    Fault(
        "q map of another shape",
        "O",
        q_map((5, 6)),
        rf"{H5}: expected frames of \(5, 6\) as in \S.*STEM_qmap\.hdf, found \(4, 6\); give the partition file",
    ),
    Fault(
        "transposed q map",
        "O",
        q_map((6, 4)),
        rf"{H5}: expected frames of \(6, 4\) as in \S.*STEM_qmap\.hdf, found \(4, 6\), which is transposed;",
    ),
    Fault(
        "q map without a valid pixel",
        "O",
        q_map(mask=np.zeros((4, 6))),
        rf"{QMAP}/dynamic_roi_map: expected valid pixels in the bins, found none in 2 bins;",
    ),
    Fault(
        "static label across a border",
        "O",
        q_map(static_roi_map=ACROSS),
        rf"{QMAP}/static_roi_map: expected every static label inside one dynamic label, found static label 2 across",
    ),
    Fault("copy", "L", replaced_by(shutil.copy), AGAIN),
    Fault("symbolic link to a scan", "L", replaced_by(lambda old, new: new.symlink_to(old)), AGAIN),
    Fault("hard link to a scan", "L", replaced_by(os.link), AGAIN),
    Fault(
        "dangling link",
        "L",
        replaced_by(lambda old, new: new.symlink_to("nowhere.h5")),
        rf"{H5}: expected a file behind the link, found none;",
    ),
    Fault(
        "name outside of UTF-8",
        "L",
        renamed(b"\xff"),
        r"STEM\\udcff\.h5: expected a path in UTF-8, which the catalog can hold, found 'STEM\\udcff\.h5'; rename",
        "_~HASH",
    ),
    Fault(
        "name with a line break and escapes",
        "L",
        both(cut(".h5", 3000), renamed(WEIRD.encode())),
        r"STEM\\n\\x1b\[31mred\\x1b\]0;title\\x07\.h5: cannot read it: .*truncated file",
        "__[31mred_]0;title_",
    ),
    Fault(
        ".npy with a pickle",
        "N",
        pickled,
        r"STEM\.npy: cannot read it: it holds Python objects, and unpickling these could run any program;",
    ),
    Fault(
        ".npy cut off", "N", cut(".npy", -1000), r"STEM\.npy: cannot read it: expected 9216 bytes of data, found 8216"
    ),
    Fault("external link to the outside", "L", lead_outside("link"), ELSEWHERE),
    Fault("virtual source outside", "L", lead_outside("source"), ELSEWHERE),
    Fault("external storage outside", "L", lead_outside("storage"), ELSEWHERE),
    Fault(
        "a million frames that were never written",
        "L",
        raw(".h5", shape=(10**6, 4096, 4096), dtype="u2", chunks=(1, 4096, 4096)),
        rf"{IN_H5} 1000000 frames, found 0 that were written;",
    ),
    Fault("a third not written", "L", write_two_thirds, rf"{IN_H5} 12 frames, found 8 that were written;"),
    Fault(
        "Eiger without a data file",
        "E",
        drop("_data_000002.h5"),
        r"STEM_master\.h5:/entry/data/data_000002: expected the linked file \S.*STEM_data_000002\.h5, found none;",
    ),
    Fault(
        "Eiger with another nimages",
        "E",
        put("_master.h5", "entry/instrument/detector/detectorSpecific/nimages", 9),
        r"STEM_master\.h5: expected 9 frames \(nimages x ntrigger\), found 8;",
    ),
    Fault(
        "Eiger data file of another shape",
        "E",
        raw("_data_000002.h5", data=frames_of(4, 8, 13)),
        rf"STEM{DATA % 2}: expected frames of uint16 \(8, 12\) as in \S.*STEM{DATA % 1}, found uint16 \(8, 13\);",
        "_master",
    ),
    Fault(
        "a number far from the others of a series",
        "F",
        lambda at: at("_0002.edf").rename(at("_0999.edf")),
        r"STEM_0999\.edf: expected number \d after STEM_000\d\.edf, found 999;",
        "_0000",
    ),
    Fault(
        "image of another shape",
        "F",
        lambda at: at("_0002.edf").write_bytes(series.edf(np.ones((9, 14), "<u2"))),
        r"STEM_0002\.edf: expected uint16 \(9, 13\) as in STEM_0000\.edf, found uint16 \(9, 14\);",
        "_0000",
    ),
    Fault(
        "image cut off",
        "F",
        cut("_0000.edf", -100),
        r"STEM_0000\.edf: cannot read it: expected 234 bytes of pixels at 512, found 134;",
        "_0000",
    ),
    Fault(
        "Timepix",
        "",
        lambda at: at(".tpx").write_bytes(b"TPX4" * 100),
        r"STEM\.tpx: expected a format with a published layout, found Timepix4 events",
    ),
    Fault(
        "sparse without its shape",
        "S",
        without_shape,
        rf"{H5}:/: expected the attribute frames_shape of three integers \(t, y, x\), found None; add it",
    ),
    Fault(
        "sparse with a pointer beyond its events",
        "S",
        put(".h5", "frame_pointer", BEYOND),
        rf"{H5}:/frame_pointer: expected ascending numbers from 0 to 5, found 0 to 900;",
    ),
    Fault("complex frames", "L", raw(".h5", data=np.ones(SHAPE, "c8")), rf"{IN_H5} counts .*, found complex64 "),
    Fault("no frame", "L", raw(".h5", data=np.ones((0, 12, 16), "u2")), rf"{IN_H5} counts .*, found uint16 \(0, 12"),
    Fault("g2 alone", "W", put(".hdf", "xpcs/twotime", None), r"STEM\.hdf: expected two-time maps, found g2 only;"),
    Fault(
        "C2 of several shapes",
        "W",
        put(".hdf", "xpcs/twotime/correlation_map/c2_00002", np.ones((23, 23), "f4")),
        rf"{MAP}: expected two-time maps of \(24, 24\) real numbers, found float32 \(23, 23\);",
    ),
]
"""Those that are problems at all."""


@dataclass
class Planted:
    """A tree with all faults in it, each among good scans."""

    tree: Tree
    source: dict[str, Any]
    scan_ids: dict[str, str] = field(default_factory=dict)
    """Of the faults, by their names."""
    stems: dict[str, str] = field(default_factory=dict)


def plant(root: Path, num_scans: int) -> Planted:
    tree = make_tree(root, num_scans)
    planted = Planted(tree, tree.source)
    good = min(path for folder in tree.folders for path in folder.glob("L????.h5"))
    for number, fault in enumerate(FAULTS):
        at = Spot(tree.folders[number * 7 % 48], f"bad{number:02d}", good, root.with_name("outside"))
        at.folder.mkdir(parents=True, exist_ok=True)
        if fault.letter:
            tree.write(fault.letter, at.folder, at.stem, 50000 + number)
            if path := tree.qmap_path(fault.letter):
                planted.source["partition"][f"*/{at.stem}*"] = str(path)
        fault.damage(at)
        renamed = os.fsencode(at("").relative_to(root)) + b"\xff.h5"
        more = fault.more.replace("HASH", hashlib.sha256(renamed).hexdigest()[:6])
        planted.scan_ids[fault.name] = tree.scan_id(at.folder, f"{at.stem}{more}")
        planted.stems[fault.name] = at.stem
    return planted


# -------------------------------------------------------------------------------------------------- the whole tree


def walk(source: dict[str, Any], known: Iterable[FileRecord] = ()) -> tuple[Discovery, Counter[Path], Counter[Path]]:
    """What is found, how often each file was looked at, and how often it was opened, beside the tree, too."""
    look_at_each, looks = walking.look_at_each, Counter[Path]()

    def look(files: Sequence[tuple[Path, Any]], dataset: str = "") -> Iterator[FileRecord]:
        looks.update(path for path, _ in files)
        return look_at_each(files, dataset)

    with pytest.MonkeyPatch.context() as patch, counted_opens(Path(source["path"]).parent) as opens:
        patch.setattr(walking, "look_at_each", look)
        found = discover(SourceConfig(**source), {record.path: record for record in known})
    return found, looks, opens


@dataclass
class Walked:
    planted: Planted
    found: Discovery
    looks: Counter[Path]
    opened: Counter[Path]
    before: dict[str, tuple[int, ...]]
    after: dict[str, tuple[int, ...]]

    @property
    def reasons(self) -> dict[str, str]:
        return {problem.scan_id: problem.reason for problem in self.found.problems}


def snapshot(folder: Path) -> dict[str, tuple[int, ...]]:
    """Size, dates and mode of everything below, links not followed."""
    found = {}
    for path in folder.rglob("*"):
        stat = path.lstat()
        found[str(path)] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_mode)
    return found


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """2000 good scans, all faults, and what the first walk finds."""
    folder = tmp_path_factory.mktemp("whole")
    planted = plant(folder / "tree", 2000)
    before = snapshot(folder)
    found, looks, opened = walk(planted.source)
    return Walked(planted, found, looks, opened, before, snapshot(folder))


@pytest.mark.slow
def test_no_good_scan_is_lost(walked: Walked) -> None:
    expected, missed = walked.planted.tree.scans, {walked.planted.scan_ids[fault.name] for fault in FAULTS}
    good = {scan.scan_id: scan for scan in walked.found.scans if scan.state == "found" and scan.scan_id not in missed}
    assert good.keys() == expected.keys()
    assert len(good) == 2000
    shares = Counter(kind.format for kind in KINDS.values() for _ in range(20 * kind.share))
    assert Counter(scan.format for scan in good.values()) == shares
    for scan_id, scan in good.items():
        *form, frame_time = expected[scan_id]
        assert [scan.format, scan.num_frames, scan.height, scan.width] == form, scan_id
        assert scan.frame_time == pytest.approx(frame_time, rel=1e-9), scan_id
        assert (scan.num_q_bins > 0) == (not scan.height or scan.num_pixels > 0), scan_id
    partitions = {scan.partition for scan in good.values() if scan.height == 12}
    assert len(partitions) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    FAULTS,
    ids=[fault.name for fault in FAULTS],
)
def test_each_fault_is_told_in_one_line(walked: Walked, fault: Fault) -> None:
    reason = walked.reasons[walked.planted.scan_ids[fault.name]]
    assert reason.isprintable()
    assert re.search("/" + fault.reason.replace("STEM", walked.planted.stems[fault.name]), reason), reason
    assert re.search(r"; [a-z].{10,}", reason), reason


@pytest.mark.slow
def test_nothing_else_is_a_problem(walked: Walked) -> None:
    assert walked.reasons.keys() == {walked.planted.scan_ids[fault.name] for fault in FAULTS}
    states = {scan.scan_id: scan.state for scan in walked.found.scans}
    assert {scan_id for scan_id, state in states.items() if state == "quarantined"} == walked.reasons.keys()


@pytest.mark.slow
def test_what_is_no_scan_is_left_alone(walked: Walked) -> None:
    root = walked.planted.tree.root
    first = walked.planted.tree.folders[0]
    ignored = dict(walked.found.ignored)
    assert len(ignored) == 6
    assert ignored.pop(first / "spectrum.h5").endswith(
        "neither frames (/entry/data/data) nor two-time maps (square arrays)"
    )
    assert all(re.fullmatch(rf"{path}: a result of L\d{{4}}, whose frames are here", ignored[path]) for path in ignored)
    assert walked.found.sample_log == root / "sample_log.csv"
    assert len(walked.found.sample_log_table) == 2000
    kinds = {record.path: record.kind for record in walked.found.records}
    others = ("README.txt", "scan_1.log", "peaks.csv", "a.png", "a.jpg", "firmware.bin", "fit.pickle", "x.dat")
    assert {kinds[first / name] for name in others} == {walking.Kind.OTHER}
    assert not any(part.startswith(".") for path in kinds for part in path.relative_to(root).parts)


@pytest.mark.slow
def test_nothing_is_changed_or_run(walked: Walked) -> None:
    assert walked.before == walked.after
    assert len(walked.before) > 4500
    folder = walked.planted.tree.root.parent
    assert not (folder / "exploded").exists()
    assert {path.name for path in folder.iterdir()} == {"tree", "outside"}


@pytest.mark.slow
def test_each_file_is_opened_once(walked: Walked) -> None:
    """But for those that are not what they are called, and the log; those that HDF5 itself opens to know the shape of a
    virtual dataset; and files of several images, of which the one before has to know whether they go on."""
    found, opened = walked.found, walked.opened
    kinds = {record.path: record.kind for record in found.records if record.stamp.modified}
    parts = {path for path, kind in kinds.items() if kind is walking.Kind.COMPANION}
    assert walked.looks == Counter(kinds.keys() - parts)
    assert len(parts) > 300
    more = {path for path, num in opened.items() if num > 1}
    good = min(path for path in kinds if re.fullmatch(r"L\d{4}\.h5", path.name))  # of which there are copies
    known = {path for path in more if path.name.startswith("bad") or path.match("B*/scan0001/*")}
    known |= {path for path in more if path.name[0] in "GT"} | {good}
    assert more - known == {found.sample_log}
    assert opened.total() < 1.03 * len(opened)
    assert max(num for path, num in opened.items() if path != good) <= 3
    assert not [path for path in opened if "outside" in path.parts]


@pytest.mark.slow
def test_a_second_walk_opens_what_has_changed(walked: Walked) -> None:
    """Files that are written anew in place: metadata, scans that are damaged, scans that are mended."""
    tree, found = walked.planted.tree, walked.found
    names = sorted(scan_id for scan_id in tree.scans if scan_id.split("--")[-1].startswith("L"))[5:]
    mended = [walked.planted.scan_ids[name] for name in ("HDF5 cut off", ".bin without a byte")]
    slower, damaged = names[:6], names[6:8]
    changed = [tree.path(name, "_metadata.hdf") for name in (*slower, *mended)]
    changed += [tree.path(name, ".h5") for name in (*damaged, mended[0])] + [tree.path(mended[1], ".bin")]
    for path in changed[:6]:
        with h5py.File(path, "a") as file:
            file[FRAME_TIME][()] = 0.5
    for name in damaged:
        os.truncate(tree.path(name, ".h5"), 3000)
    for name, letter in zip(mended, "LR", strict=True):
        tree.write(letter, tree.path(name, "").parent, tree.path(name, "").name, 60000)
    again, looks, opened = walk(walked.planted.source, found.records)
    unread = {record.path for record in found.records if any(scan.may_change for scan in record.scans)}
    assert looks == Counter({*changed, *unread})  # what could not be read may be mended by a file beside it
    sound = {record.path for record in found.records if not (record.reason or record.path in unread)}
    again_opened = (opened.keys() & sound) - {*changed, found.sample_log}
    assert not {path for path in again_opened if not path.name.startswith("bad")}
    before, after = ({scan.scan_id: scan for scan in one.scans} for one in (found, again))
    assert {name for name in after if repr(after[name]) != repr(before[name])} == {*slower, *damaged, *mended}
    assert {after[name].frame_time for name in slower} == {0.5}
    problems = {problem.scan_id for problem in again.problems}
    assert problems == walked.reasons.keys() - {*mended} | {*damaged}


def test_the_verb_counts_and_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = plant(tmp_path / "tree", 200)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"source": planted.source}), encoding="utf-8")
    archive = ["--archive", str(tmp_path / "archive"), "--config", str(tmp_path / "config.yaml")]
    num_problems, num_scans = len(FAULTS), 200 + len(FAULTS)
    assert main(["catalog", str(planted.tree.root), *archive]) == 3
    out, error = capsys.readouterr()
    assert f"{num_problems} of {num_scans} scans have problems" in error
    assert re.search(r"aps-hdf5 +found +76 +912 ", out)  # 38 % of 200 scans, of 12 frames
    assert "... and" in out
    files = sum(path.is_file() for path in planted.tree.root.rglob("*"))
    seen, opened = map(int, re.search(r"(\d+) files in .*, (\d+) of them opened", out.replace("\n", " ")).groups())
    assert opened == seen > 0.9 * files
    wanted = ["query", "state == 'quarantined'", "--limit", "99", "--output", str(tmp_path / "bad.csv")]
    assert main(["catalog", *wanted, *archive]) == 0
    out = capsys.readouterr().out
    assert f"{num_problems} of {num_scans} scans" in out
    assert "\x1b" not in out
    assert "\a" not in out
    listed = pd.read_csv(tmp_path / "bad.csv").set_index("scan_id")["problems"]
    told = {planted.scan_ids[fault.name]: fault for fault in FAULTS}
    assert set(listed.index) == set(told)
    for scan_id, reason in listed.items():
        assert reason in out
        fault = told[scan_id]
        assert re.search(fault.reason.replace("STEM", planted.stems[fault.name]), reason)
    assert main(["catalog", str(planted.tree.root), *archive]) == 3
    counted = re.search(r" (\d+) of\s+them\s+opened", capsys.readouterr().out)
    assert counted is not None
    assert int(counted[1]) <= len(FAULTS)  # what could not be read may be mended by a file beside it


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    tree = small(tmp_path, ("L", "a", "L0001"), ("L", "locked", "L0002"), ("L", "a", "L0003"))
    locked = tree.root / "locked"
    locked.chmod(0)
    (tree.root / "a/L0003.h5").chmod(0)
    program = (
        "import json, sys; from ainerd_hpc.config import SourceConfig\n"
        "from ainerd_hpc.sources.discovery import discover\n"
        "found = discover(SourceConfig(**json.loads(sys.argv[1])))\n"
        "print(json.dumps([{one.scan_id: one.reason for one in found.problems}, "
        "[one.scan_id for one in found.scans if one.state == 'found']]))"
    )
    command = [*WITHOUT_CAPABILITIES, sys.executable, "-c", program, json.dumps(tree.source)]
    try:
        result = subprocess.run(command, check=True, capture_output=True, text=True)
    finally:
        locked.chmod(0o700)
    reasons, good = json.loads(result.stdout)
    assert reasons.keys() == {"locked", "a--L0003"}
    assert f"{locked}: cannot look into it: Permission denied; mend this, or take it" in reasons["locked"]
    assert "L0003.h5: cannot read it: " in reasons["a--L0003"]
    assert "Permission denied" in reasons["a--L0003"]
    assert good == ["a--L0001"]


def test_folders_may_lie_as_deep_as_paths_are_long(tmp_path: Path) -> None:
    """Deeper than Python calls functions."""
    tree = small(tmp_path, ("L", "a", "L0001"))
    deep = tree.root / "/".join("d" * 1200)
    subprocess.run(["mkdir", "-p", deep], check=True)
    tree.write("L", deep, "L0002", 7)
    try:
        found = discover(SourceConfig(**tree.source))
    finally:
        subprocess.run(["rm", "-r", tree.root / "d"], check=True)
    assert [scan.source for scan in found.scans] == [str(tree.root / "a/L0001.h5"), str(deep / "L0002.h5")]
    assert not found.problems


# ------------------------------------------------------------------------------------- what is not as it should be


def small(tmp_path: Path, *scans: tuple[str, str, str]) -> Tree:
    """A tree of these scans: kind, folder, name."""
    tree = Tree(tmp_path / "tree")
    tree.write_qmaps(letter for letter, _, _ in scans)
    for number, (letter, folder, name) in enumerate(scans):
        tree.scans[f"{folder}--{name}"] = tree.write(letter, tree.root / folder, name, number)
    return tree


def states(tree: Tree, known: Iterable[FileRecord] = (), **source: Any) -> dict[str, str]:
    """State of each scan that is found, or the reason of its problem."""
    found = discover(SourceConfig(**tree.source | source), {record.path: record for record in known})
    return {scan.scan_id: scan.state for scan in found.scans} | {one.scan_id: one.reason for one in found.problems}


def test_scans_of_few_photons_are_no_copies(tmp_path: Path) -> None:
    """Most of such files is 0: they can be alike wherever one looks."""
    tree = small(tmp_path, ("A", "a", "A0001"), ("A", "a", "A0002"))
    for number in (1, 2):
        frames = np.zeros((1200, 10, 14), "<u2")
        frames[100 * number : 100 * number + 3, 4, 5] = 1
        raw(".h5", data=frames)(Spot(tree.root / "a", f"A000{number}", tree.root, tree.root))
    assert states(tree) == {"a--A0001": "found", "a--A0002": "found"}


def test_data_of_a_master_belong_to_what_is_compared(tmp_path: Path) -> None:
    tree = small(tmp_path, ("E", "a", "E0001"), ("E", "b", "E0001"))
    shutil.copy(tree.root / "a/E0001_master.h5", tree.root / "b/E0001_master.h5")
    eiger.write_data_file(tree.root / "b/E0001_data_000001.h5", frames_of(4, 8, 12) + 1)
    assert states(tree) == {"a--E0001": "found", "b--E0001": "found"}


def test_a_file_of_a_scan_that_was_mended_in_place_is_looked_at_again(tmp_path: Path) -> None:
    tree = small(tmp_path, ("F", "a", "F0001"), ("L", "a", "L0001"))
    image = tree.root / "a/F0001_0002.edf"
    whole = image.read_bytes()
    os.truncate(image, 600)
    records = discover(SourceConfig(**tree.source)).records
    image.write_bytes(whole)
    assert states(tree, records) == {"a--F0001": "found", "a--L0001": "found"}


def test_a_file_that_vanished_below_is_a_problem(tmp_path: Path) -> None:
    tree = small(tmp_path, ("B", "a", "B0001"), ("L", "a", "L0001"))
    records = discover(SourceConfig(**tree.source)).records
    (tree.root / "a/B0001/scan0001/eiger_0000.h5").unlink()
    found = states(tree, records)
    assert found["a--L0001"] == "found"
    assert re.search(r"expected the linked file .*eiger_0000\.h5, found none", found["a--B0001--sample"])


def test_a_result_of_another_sample_is_no_result_of_this_one(tmp_path: Path) -> None:
    """Names begin anew for each sample."""
    tree = small(tmp_path, ("L", "silica", "L0001"), ("W", "gold", "L0001"))
    (tree.root / "gold/L0001.hdf").rename(tree.root / "gold/L0001_results.hdf")
    assert states(tree) == {"gold--L0001_results": "found", "silica--L0001": "found"}


@pytest.mark.parametrize(("name", "target"), [(FRAMES, "gone.h5"), ("entry/data", "../gone.h5"), (FRAMES, "L0001.h5")])
def test_a_link_that_leads_nowhere_is_a_problem(tmp_path: Path, name: str, target: str) -> None:
    tree = small(tmp_path, ("L", "a", "L0001"), ("L", "a", "L0002"))
    with h5py.File(tree.root / "a/L0001.h5", "w") as file:
        file[name] = h5py.ExternalLink(target, name)
    assert re.search(rf"L0001\.h5:/{name}.*: expected .*, found", states(tree)["a--L0001"])


def test_no_file_outside_is_opened(tmp_path: Path) -> None:
    """A pipe, which can be opened for writing without delay only while somebody has it open for reading."""
    tree = small(tmp_path, ("L", "a", "L0001"), ("L", "a", "L0002"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with h5py.File(tree.root / "a/L0001.h5", "w") as file:
        file[FRAMES] = h5py.ExternalLink(str(pipe), FRAMES)
    program = (
        "import os, time\nwhile True:\n    time.sleep(0.01)\n    try:\n"
        f"        os.close(os.open({str(pipe)!r}, os.O_WRONLY | os.O_NONBLOCK))\n        print('opened', flush=True)\n"
        "    except OSError: pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as watcher:
        try:
            found = states(tree)
        finally:
            watcher.kill()
        said = watcher.communicate()[0]
    assert said == b""
    assert "expected links to files below" in found["a--L0001"]


def test_a_scan_whose_own_q_map_is_damaged_takes_no_other(tmp_path: Path) -> None:
    tree = small(tmp_path, ("O", "a", "O0001"), ("O", "a", "O0002"))
    os.truncate(tree.root / "a/O0001_qmap.hdf", 900)
    write_qmap(tree.root / "shared.hdf", (4, 6))
    found = states(tree)
    assert found["a--O0002"] == "found"
    assert re.search(r"O0001_qmap\.hdf: cannot read it: .*truncated", found["a--O0001"])


def test_data_files_of_a_master_that_is_cut_off_are_no_scans(tmp_path: Path) -> None:
    tree = small(tmp_path, ("E", "a", "E0001"), ("L", "a", "L0001"))
    os.truncate(tree.root / "a/E0001_master.h5", 3000)
    assert states(tree, frame_time=0.5).keys() == {"a--E0001_master", "a--L0001"}


def test_a_reason_is_short_however_many_partitions_there_are(tmp_path: Path) -> None:
    own = [("O", "a", f"O{number:04d}") for number in range(40)]
    tree = small(tmp_path, *own, ("L", "a", "L0001"), ("A", "a", "A0001"))
    reason = states(tree, partition={})["a--L0001"]
    assert "expected one partition file (/qmap), found " in reason
    assert "O0020_qmap.hdf" not in reason
    assert len(reason) < 200 + len(str(tree.root))


def test_what_a_reason_advises_helps(tmp_path: Path) -> None:
    tree = small(tmp_path, ("L", "a", "L0001"))
    put("_metadata.hdf", FRAME_TIME, np.nan)(Spot(tree.root / "a", "L0001", tree.root, tree.root))
    assert "set source.frame_time and take this file away" in states(tree)["a--L0001"]
    (tree.root / "a/L0001_metadata.hdf").unlink()
    assert states(tree, frame_time=0.5) == {"a--L0001": "found"}


def test_a_reason_names_its_file_and_its_way_out_once(tmp_path: Path) -> None:
    tree = small(tmp_path, ("L", "a", "L0001"), ("N", "a", "N0001"))
    os.truncate(tree.root / "a/L0001_metadata.hdf", 700)
    os.truncate(tree.root / "a/N0001.npy", 0)
    found = states(tree, frame_time=0.5)
    assert found["a--L0001"].count("L0001_metadata.hdf") == found["a--L0001"].count("; ") == 1
    assert found["a--N0001"].count("N0001.npy") == found["a--N0001"].count("; ") == 1


def test_a_store_without_a_dataset_is_not_passed_over(tmp_path: Path) -> None:
    tree = small(tmp_path, ("Y", "a", "Y0001"), ("L", "a", "L0001"))
    found = discover(SourceConfig(**tree.source | {"dataset": ""}))
    assert [path.name for path, reason in found.ignored if "source.dataset" in reason] == ["Y0001.zarr"]


def test_a_dangling_link_does_not_count_as_opened_again(tmp_path: Path) -> None:
    tree = small(tmp_path, ("L", "a", "L0001"))
    (tree.root / "a/L0002.h5").symlink_to("nowhere.h5")
    first, _, _ = walk(tree.source)
    second, _, _ = walk(tree.source, first.records)
    assert all(new is old for new, old in zip(second.records, first.records, strict=True))


@pytest.mark.parametrize("letter", KINDS)
def test_each_file_of_a_scan_is_opened_once(letter: str, tmp_path: Path) -> None:
    tree = small(tmp_path, (letter, "a", f"{letter}0001"), ("L", "b", "L0001"))
    _, _, opened = walk(tree.source | {"frame_time": 1.0})
    again = {path for path, count in opened.items() if count > 1}
    assert not {path for path in again if not path.match("B0001/scan0001/*")}  # opened by HDF5 itself
    assert len(opened) >= 4


def test_partitions_are_not_read_again(tmp_path: Path) -> None:
    tree = small(tmp_path, ("L", "a", "L0001"), ("O", "a", "O0001"))
    first, _, _ = walk(tree.source)
    second, looks, opened = walk(tree.source, first.records)
    assert second.scans == first.scans
    assert not looks
    assert not opened


# -------------------------------------------------------------------------------------------------- all the way


def module_of(folder: Path) -> tuple[np.ndarray, list[rigaku.Event]]:
    """A few photons on the detector of 500k pixels, in every frame; frames (t, y, x) and events."""
    frames = np.random.default_rng(6).poisson(0.002, (12, rigaku.ROWS, rigaku.COLUMNS)).astype("<u2")
    places = np.argwhere(frames)
    counts = frames[tuple(places.T)]
    return frames, [(int(t), int(y * rigaku.COLUMNS + x), int(n)) for (t, y, x), n in zip(places, counts, strict=True)]


def write_in_all_formats(folder: Path, frames: np.ndarray, events: list[rigaku.Event]) -> list[str]:
    """The same photons in each; names of the scans."""
    folder.mkdir()
    shape, rows = frames.shape, {"rows": rigaku.ROWS, "columns": rigaku.COLUMNS}
    rigaku.write(folder / "rigaku.bin", events)
    (folder / "imm.imm").write_bytes(imm.sparse(events, len(frames), **rows))
    (folder / "dense.imm").write_bytes(imm.dense_frames(frames))
    raw(".h5", data=frames, chunks=(1, *shape[1:]), **eiger.BITSHUFFLE)(Spot(folder, "aps", folder, folder))
    esrf.write_by_frame(folder / "csr.h5", events, shape)
    esrf.write_by_pixel(folder / "csc.h5", events, shape)
    eiger.write_scan(folder, frames, 6)
    with h5py.File(folder / "lima.h5", "w") as file:
        file.create_dataset("entry_0000/measurement/data", data=frames, chunks=(1, *shape[1:]), **eiger.BITSHUFFLE)
    (folder / "edf.edf").write_bytes(b"".join(map(series.edf, frames)))
    (folder / "tiff.tif").write_bytes(series.tiff(frames))
    for number, image in enumerate(frames.astype("<i4")):
        packed = np.diff(image.ravel(), prepend=0).astype("i1").tobytes()  # no difference is above 127
        (folder / f"cbf_{number:03d}.cbf").write_bytes(series.cbf(image, packed))
    arrays.write_v2(folder / f"zarr.zarr/{DATASET}", frames)
    (folder / "zarr.zarr/.zgroup").write_text('{"zarr_format": 2}')
    names = ["rigaku", "imm", "dense", "aps", "csr", "csc", "run_7", "lima", "edf", "tiff", "cbf", "zarr"]
    for name in names:
        some_metadata(folder / f"{name}_metadata.hdf")
    return names


@pytest.mark.slow
def test_the_same_photons_give_the_same_bits_from_every_format(tmp_path: Path) -> None:
    pytest.importorskip("fabio")
    frames, events = module_of(tmp_path)
    names = write_in_all_formats(tmp_path / "tree", frames, events)
    write_qmap(tmp_path / "tree/qmap.hdf", frames.shape[1:])
    settings = [f"source.dataset={DATASET}", "executor.memory=4 GB"]
    expected: Arrays = {}
    for form in ("none", "events"):
        archive = tmp_path / form
        chosen = [word for setting in [*settings, f"ingest.form={form}"] for word in ("--set", setting)]
        where = ["--source", str(tmp_path / "tree"), "--archive", str(archive), "--executor", "inline"]
        assert main(["run", *where, "--until", "correlate", *chosen]) == 0
        formats = read_table(archive / "catalog.parquet").set_index("scan_id")["format"]
        assert set(formats.index) == set(names)
        assert formats.nunique() == 8
        for name in names:
            found = read_arrays(archive, name)
            expected = expected or found
            assert_same(found, expected)
    assert {"c2_unnormalized", "c2_scale", "g2"} <= expected.keys()
    assert_true(expected, truth(frames, read_partition(tmp_path / "tree/qmap.hdf")))


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--files", "200"])
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if "|" in line]
    rows = {line[1].strip(): line[2:-1] for line in lines}
    ways = ["scandir + stat", "open + read 4 kB", "first walk", "records", "records, read", "second walk"]
    assert [*rows][2:] == ways
    first, second = (list(map(float, rows[way])) for way in ("first walk", "second walk"))
    assert first[2] > 200 > second[2]
    assert first[0] > second[0] > float(rows["scandir + stat"][0])
