"""What files say of their own pixels: each field that the docs name for a reader, in a small file of that format."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ainerd_hpc.archive.groups import writing_group
from ainerd_hpc.config import CorrectConfig
from ainerd_hpc.correlation.counts.dead_values import marked
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.images import ImagePlace, read_image
from ainerd_hpc.formats.description import Description
from ainerd_hpc.formats.detector_pixels import PixelFacts, pixels_of
from ainerd_hpc.formats.registry import _ARRAYS, READERS, reader, scans_of
from ainerd_hpc.formats.source_file import SourceFile
from tests.formats.test_image_series import edf, tiff
from tests.support.places import ROOT

FRAMES = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
FRAMES[1, 2, 3], FRAMES[2, 0, 4] = 4000, 4094
MASK = np.zeros((4, 5), np.uint32)
MASK[1, 2], MASK[3, 0] = 1, 2**31
DETECTOR = {
    "eiger-hdf5": ("entry/data/data", "entry/instrument/detector"),
    "aps-hdf5": ("entry/data/data", "entry/instrument/detector_1"),
    "esrf-hdf5": ("entry_0000/measurement/data", "entry_0000/instrument/eiger"),
    "hdf5-array:some/where/data": ("some/where/data", "some/where"),
}
"""Where frames are, and what is said of their pixels."""
SAID: dict[str, tuple[Any, Callable[[np.ndarray], np.ndarray]]] = {
    "pixel_mask": (MASK, lambda frames: np.broadcast_to(MASK > 0, frames.shape)),
    "saturation_value": (4000, lambda frames: frames > 4000),
    "underload_value": (3, lambda frames: frames < 3),
    "countrate_correction_count_cutoff": (4000, lambda frames: frames >= 4000),
    "bit_depth_image": (12, lambda frames: frames >= 4094),
    "Dummy": ({"Dummy": 31, "DDummy": 1.5}, lambda frames: (frames >= 30) & (frames <= 32)),
    "DDummy": ({"Dummy": -2, "DDummy": 3}, lambda frames: frames <= 1),
    "Count_cutoff": ("# Count_cutoff 4000 counts", lambda frames: frames >= 4000),
    "GDAL_NODATA": ("31", lambda frames: frames == 31),
    "no_counts": ([[None, 2], [4000, None]], lambda frames: (frames <= 2) | (frames >= 4000)),
}
"""Field -> what the file says, and which values are no counts then."""
TOLD = {
    **dict.fromkeys(("flatfield_applied", "flatfield_correction_applied", "countrate_correction_applied"), 0),
    "virtual_pixel_correction_applied": True,
    "number_of_excluded_pixels": 3,
    "Flat_field": "# Flat_field: (nil)",
}


def write_hdf5(name: str, folder: Path, said: Mapping[str, Any], frames: np.ndarray = FRAMES) -> Path:
    array, group = DETECTOR[name]
    with h5py.File(folder / "scan.h5", "w") as file:
        file[array] = frames
        file.require_group(group)
        for field, value in said.items():
            file[f"{group}/{field}"] = value
    return folder / "scan.h5"


def write_images(folder: Path, field: str, value: Any) -> Path:
    """EDF, or TIFF with the description of Pilatus or a tag of GDAL."""
    if isinstance(value, dict):
        (folder / "scan.edf").write_bytes(b"".join(edf(image, value) for image in FRAMES))
        return folder / "scan.edf"
    more = {"tags": {42113: value.encode() + b"\0"}} if field == "GDAL_NODATA" else {"description": value}
    (folder / "scan.tif").write_bytes(tiff(FRAMES, **more))
    return folder / "scan.tif"


def write_product(folder: Path, field: str, value: Any) -> Path:
    """As `ingest` copies frames."""
    path = folder / "scan.zarr.zip"
    attributes = {"digest": "", "form": "frames", "frame_time": 1.0}
    with writing_group(path, attributes | ({} if field == "pixel_mask" else {field: value})) as group:
        if field == "pixel_mask":
            group.add(field, value, ("y", "x"))
        group.create("frames", FRAMES.shape, "u2", ("t", "y", "x"), (1, 4, 5))[...] = FRAMES
    return path


def write(name: str, folder: Path, field: str, value: Any) -> Path:
    if name == "ainerd-frames":
        return write_product(folder, field, value)
    return write_images(folder, field, value) if name == "image-series" else write_hdf5(name, folder, {field: value})


def describe(path: Path, name: str) -> Description:
    with SourceFile(path) as file:
        (scan,) = scans_of(file, name.partition(":")[2])
    assert (scan.format, scan.reason) == (name, "")
    assert scan.description is not None
    return scan.description


def read(path: Path, name: str) -> np.ndarray:
    """Frames with the value of dead pixels in place of all that is no count."""
    with reader(name).open(path) as frames:
        found, mask = marked(frames, CorrectConfig()).read(0, 3), pixels_of(frames).mask
    return found if mask is None else np.where(mask > 0, 65535, found)


def table() -> list[tuple[list[str], list[str], list[str]]]:
    """(readers, what is acted on, what is told) of each row."""
    page = (ROOT / "docs/formats.md").read_text(encoding="utf-8").partition("| reader |")[2].partition("\n\n")[0]
    rows = [line.strip("|").split("|") for line in page.splitlines()[2:]]
    return [tuple(re.findall(r"`([^`]+)`", cell) for cell in row) for row in rows]  # type: ignore[misc]


def fields(column: int) -> list[tuple[str, str]]:
    """(reader, field) of a column of the table."""
    full = {name.partition(":")[0]: name for name in DETECTOR}
    return [(full.get(name, name), field) for row in table() for name in row[0] for field in row[column]]


def test_the_table_has_every_reader_once() -> None:
    assert sorted(name for names, _, _ in table() for name in names) == sorted([*READERS, *_ARRAYS])


@pytest.mark.parametrize(("name", "field"), fields(1))
def test_what_is_acted_on(name: str, field: str, tmp_path: Path) -> None:
    value, is_no_count = SAID[field]
    path = write(name, tmp_path, field, value)
    facts = describe(path, name).pixels
    assert any(field in one for one in facts.used)
    assert facts.unused == ()
    assert facts.key, "scans of before are correlated anew"
    if field == "pixel_mask":
        assert describe(path, name).reader_bytes >= 4 * MASK.size
    np.testing.assert_array_equal(read(path, name), np.where(is_no_count(FRAMES), 65535, FRAMES))


@pytest.mark.parametrize(("name", "field"), fields(2))
def test_what_is_told(name: str, field: str, tmp_path: Path) -> None:
    path = write(name, tmp_path, field, TOLD[field])
    facts = describe(path, name).pixels
    (line,) = facts.unused
    assert line.startswith(field)
    assert (facts.used, facts.key, facts.text) == ((), (), f"not used: {line}")
    np.testing.assert_array_equal(read(path, name), FRAMES)


def test_a_file_that_says_nothing(tmp_path: Path) -> None:
    for name in DETECTOR:
        assert describe(write_hdf5(name, tmp_path, {}), name).pixels == PixelFacts()


def test_a_mask_makes_flags_of_it_good(tmp_path: Path) -> None:
    """Which pixels are virtual or excluded is told by the mask, whether the detector applied it or not."""
    for applied in (0, 1):
        said = {"virtual_pixel_correction_applied": 1, "number_of_excluded_pixels": 2, "pixel_mask_applied": applied}
        path = write_hdf5("eiger-hdf5", tmp_path, {"pixel_mask": MASK, **said})
        facts = describe(path, "eiger-hdf5").pixels
        assert (facts.has_mask, facts.unused) == (True, ())


def test_a_cutoff_that_was_not_applied_is_none(tmp_path: Path) -> None:
    said = {"countrate_correction_count_cutoff": 30, "countrate_correction_applied": 0}
    path = write_hdf5("eiger-hdf5", tmp_path, said)
    np.testing.assert_array_equal(read(path, "eiger-hdf5"), FRAMES)
    assert describe(path, "eiger-hdf5").pixels.key == ()


def test_of_several_masks_a_pixel_needs_one(tmp_path: Path) -> None:
    path = write_hdf5("eiger-hdf5", tmp_path, {"detectorSpecific/pixel_mask": MASK})
    other = np.zeros((1, 4, 5), np.int32)
    other[0, 0, 0] = -(2**31)
    with h5py.File(path, "a") as file:
        detector = file["entry/instrument/detector"]
        detector["pixel_mask"] = h5py.SoftLink("/entry/instrument/detector/detectorSpecific/pixel_mask")
        detector["threshold_1_channel/pixel_mask"] = other
    facts = describe(path, "eiger-hdf5").pixels
    assert len(facts.used) == 2, "the link is the mask that it leads to"
    with reader("eiger-hdf5").open(path) as frames:
        np.testing.assert_array_equal(frames.pixels.mask, np.where(other[0], 2**31, MASK))


OTHER = np.zeros((4, 5), np.uint32)
OTHER[0, 0] = 2
CHANNELS = {"threshold_1_channel": MASK, "threshold_2_channel": OTHER, "difference_channel": None}


def masks_at(path: Path, name: str) -> list[np.ndarray | None]:
    """That of each threshold, as it is read."""
    masks = []
    for at in ("", "@2", "@3"):
        with reader(f"{name}{at}").open(path) as frames:
            masks.append(frames.pixels.mask)
    return masks


@pytest.mark.parametrize("name", DETECTOR)
@pytest.mark.parametrize("layout", ["groups", "an axis"])
def test_each_threshold_has_its_own_mask(name: str, layout: str, tmp_path: Path) -> None:
    none = np.zeros_like(MASK)
    groups = {f"{group}/pixel_mask": mask for group, mask in CHANNELS.items() if mask is not None}
    said = groups if layout == "groups" else {"pixel_mask": np.stack([MASK, OTHER, none])}
    path = write_hdf5(name, tmp_path, said, np.stack([FRAMES, FRAMES, FRAMES], axis=1))
    with h5py.File(path, "a") as file:
        file.require_group(f"{DETECTOR[name][1]}/difference_channel")
    found = masks_at(path, name)
    for mask, expected in zip(found, [MASK, OTHER, None if layout == "groups" else none], strict=True):
        np.testing.assert_array_equal(mask, expected)
    described = describe(path, name)
    assert [facts.has_mask for facts in (described.pixels, *described.other_pixels)] == [
        one is not None for one in found
    ]
    assert described.pixels_at(2) == described.other_pixels[0]
    if layout == "groups":
        assert described.pixels_at(2).used == (f"pixel_mask of /{DETECTOR[name][1]}/threshold_2_channel",)


def test_a_detector_may_not_count_the_first_threshold(tmp_path: Path) -> None:
    path = write_hdf5("eiger-hdf5", tmp_path, {"threshold_2_channel/pixel_mask": OTHER})
    with reader("eiger-hdf5").open(path) as frames:
        np.testing.assert_array_equal(frames.pixels.mask, OTHER)


def test_a_mask_of_all_thresholds_is_added_to_their_own(tmp_path: Path) -> None:
    said = {"pixel_mask": MASK, "threshold_2_channel/pixel_mask": OTHER}
    path = write_hdf5("eiger-hdf5", tmp_path, said, np.stack([FRAMES, FRAMES], axis=1))
    with reader("eiger-hdf5@2").open(path) as frames:
        np.testing.assert_array_equal(frames.pixels.mask, MASK | OTHER)


def test_a_mask_in_another_file_belongs_to_the_scan(tmp_path: Path) -> None:
    path = write_hdf5("eiger-hdf5", tmp_path, {})
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        file["mask"] = MASK
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector/pixel_mask"] = h5py.ExternalLink("mask.h5", "/mask")
    assert describe(path, "eiger-hdf5").companions == (tmp_path / "mask.h5",)
    np.testing.assert_array_equal(read(path, "eiger-hdf5"), np.where(MASK > 0, 65535, FRAMES))


@pytest.mark.parametrize(
    "link",
    [
        h5py.SoftLink("/entry/instrument/detector/detectorSpecific/pixel_mask"),
        h5py.ExternalLink("scan_meta.h5", "/mask"),
        h5py.ExternalLink("../outside.h5", "/mask"),
    ],
)
def test_a_link_to_a_mask_that_is_not_there_is_told(link: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["mask"] = MASK
    (tmp_path / "in").mkdir()
    path = write_hdf5("eiger-hdf5", tmp_path / "in", {})
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector/pixel_mask"] = link
    (line,) = describe(path, "eiger-hdf5").pixels.unused
    assert line.startswith("pixel_mask, a link to what is not there (")
    np.testing.assert_array_equal(read(path, "eiger-hdf5"), FRAMES)


@pytest.mark.parametrize("mask", [MASK.T, np.zeros((3, 4, 5), np.uint32), np.zeros((4, 5)), np.uint32(1)])
def test_a_mask_of_another_shape_is_refused(mask: Any, tmp_path: Path) -> None:
    path = write_hdf5("eiger-hdf5", tmp_path, {"pixel_mask": mask})
    with SourceFile(path) as file:
        (scan,) = scans_of(file)
    assert "/entry/instrument/detector/pixel_mask: expected whole numbers (4, 5), one a pixel, found" in scan.reason
    assert "\n" not in scan.reason
    with pytest.raises(ScanError, match="one a pixel"):
        read(path, "eiger-hdf5")


def test_masks_of_other_detectors_are_told(tmp_path: Path) -> None:
    """Where one fits; an array that is named is looked for in the same groups."""
    path = write_hdf5("aps-hdf5", tmp_path, {"pixel_mask": MASK})
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector_2/pixel_mask"] = np.ones((7, 7), np.uint32)
    for name in ("aps-hdf5", "hdf5-array:entry/data/data"):
        (line,) = describe(path, name).pixels.unused
        assert line == "pixel_mask /entry/instrument/detector_2/pixel_mask of another detector"
        np.testing.assert_array_equal(read(path, name), np.where(MASK > 0, 65535, FRAMES))


def test_what_is_no_number_harms_nothing(tmp_path: Path) -> None:
    path = write_hdf5("eiger-hdf5", tmp_path, {"saturation_value": [1, 2], "flatfield_applied": "no"})
    facts = describe(path, "eiger-hdf5").pixels
    assert facts.unused == (
        "saturation_value, which is no single number",
        "flatfield_applied, which is no single number",
    )
    np.testing.assert_array_equal(read(path, "eiger-hdf5"), FRAMES)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300, -1e300, 0])
def test_limits_that_no_count_reaches_change_nothing(value: float, tmp_path: Path) -> None:
    names = ("saturation_value", "countrate_correction_count_cutoff", "bit_depth_image")
    for name, said in [(name, value) for name in names if value >= 0] + [("underload_value", -abs(value))]:
        path = write_hdf5("eiger-hdf5", tmp_path, {name: said})
        assert describe(path, "eiger-hdf5").pixels.key == ()
        np.testing.assert_array_equal(read(path, "eiger-hdf5"), FRAMES)


def test_limits_of_frames_with_fractions(tmp_path: Path) -> None:
    """The limit itself is a count."""
    frames = FRAMES.astype(np.float32) + 0.5
    path = write_hdf5("eiger-hdf5", tmp_path, {"saturation_value": 1e300, "underload_value": -1e300}, frames)
    assert describe(path, "eiger-hdf5").pixels.key == ()
    path = write_hdf5("eiger-hdf5", tmp_path, {"saturation_value": 30.5, "underload_value": 2.5}, frames)
    expected = np.where((frames > 30.5) | (frames < 2.5), np.nan, frames)
    np.testing.assert_array_equal(read(path, "eiger-hdf5"), expected)


def test_bytes_of_a_detector_that_says_how_many_bits_it_counts(tmp_path: Path) -> None:
    """Without, 254 is a count like any other: other detectors count so far."""
    frames = np.array([253, 254, 255] * 20, np.uint8).reshape(3, 4, 5)
    path = write_hdf5("eiger-hdf5", tmp_path, {"bit_depth_image": 8}, frames)
    np.testing.assert_array_equal(read(path, "eiger-hdf5"), np.where(frames > 253, 255, frames))


def test_a_dark_image_has_nothing_where_its_file_masks_pixels(tmp_path: Path) -> None:
    path = write_hdf5("eiger-hdf5", tmp_path, {"pixel_mask": MASK, "saturation_value": 3999})
    dead = (MASK > 0) | (FRAMES > 3999).any(axis=0)
    np.testing.assert_array_equal(read_image(ImagePlace(path)), np.where(dead, np.nan, FRAMES.mean(axis=0)))


def test_damaged_files_give_nothing_but_scan_errors(tmp_path: Path) -> None:
    said = {field: value for field, (value, _) in SAID.items() if field not in {"Dummy", "DDummy", "no_counts"}}
    path = write_hdf5("eiger-hdf5", tmp_path, {**said, **TOLD, "detectorSpecific/pixel_mask": MASK})
    whole, random = path.read_bytes(), np.random.default_rng(7)
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        start = int(random.integers(len(whole)))
        damaged[start : start + int(random.integers(1, 9))] = random.integers(256)
        path.write_bytes(damaged.tobytes())
        with SourceFile(path) as file:
            found = list(scans_of(file))
        with contextlib.suppress(ScanError):
            read(path, "eiger-hdf5")
        assert all("\n" not in scan.reason for scan in found)
