"""Series of EDF, CBF and TIFF images, written byte by byte from the formats' specifications."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
import time
import tracemalloc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.images.series import ImageSeries
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

SHAPE = (9, 13)
EDF_NAMES = {"u1": "UnsignedByte", "u2": "UnsignedShort", "u4": "UnsignedInteger", "i4": "SignedInteger", "f4": "Float"}
CBF_NAMES = {"i4": "signed 32-bit integer", "u4": "unsigned 32-bit integer", "i2": "signed 16-bit integer"}


def some_images(num: int = 5, dtype: str = "u2") -> np.ndarray:
    """Counts with bright and, for integers, dead pixels: the largest value and, where there is a sign, -1 and -2."""
    images = np.random.default_rng(3).poisson(2.0, (num, *SHAPE)).astype(dtype)
    images[:, 0, 0] = np.arange(num)
    if dtype[-2] in "ui":
        images[:, 4, 5] = np.iinfo(dtype).max
    if dtype[-2] == "i":
        images[:, 4, 6:8] = -1, -2
    return images


def edf(image: np.ndarray, extra: Mapping[str, object] | None = None, unit: int = 512) -> bytes:
    """One image: keys and values in braces, filled up with blanks to whole units, then the pixels."""
    is_big = image.dtype.byteorder == ">"
    keys = {
        "HeaderID": "EH:000001:000000:000000",
        "ByteOrder": "HighByteFirst" if is_big else "LowByteFirst",
        "DataType": EDF_NAMES[image.dtype.str[1:]],
        "Dim_1": image.shape[1],
        "Dim_2": image.shape[0],
        "Size": image.nbytes,
        **(extra or {}),
    }
    text = "{\n" + "".join(f"{key} = {value} ;\n" for key, value in keys.items() if value is not None)
    size = -(-(len(text) + 2) // unit) * unit
    return f"{text:<{size - 2}}".encode() + b"}\n" + image.tobytes()


def byte_offset(image: np.ndarray) -> bytes:
    """Differences of neighbours in 1 byte or, behind escapes, in 2, 4 or 8 bytes."""
    packed, last = bytearray(), 0
    for value in image.ravel().tolist():
        difference, last = value - last, value
        for size, code, escape in ((1, "<b", b""), (2, "<h", b"\x80"), (4, "<i", b"\0\x80"), (8, "<q", b"\0\0\0\x80")):
            packed += escape
            if abs(difference) < 2 ** (8 * size - 1):
                packed += struct.pack(code, difference)
                break
    return bytes(packed)


PILATUS = """# Detector: PILATUS 300K, S/N 3-0101, ESRF
# 2010/Jun/07 10:10:10.125
# Pixel_size 172e-6 m x 172e-6 m
# Silicon sensor, thickness 0.000320 m
# Exposure_time 0.0970000 s
# Exposure_period 0.1000000 s
# Tau = 0 s
# Wavelength 1.2398 A
# Detector_distance 5.3 m
# Beam_xy (243.25, 309.5) pixels
"""


def cbf(image: np.ndarray, packed: bytes | None = None, checksum: bool = True, size: tuple | None = None) -> bytes:
    packed = byte_offset(image) if packed is None else packed
    height, width = size or image.shape
    lines = [
        "###CBF: VERSION 1.5, CBFlib v0.7.8 - SLS/DECTRIS PILATUS detectors",
        "",
        "data_image_00001",
        '_array_data.header_convention "PILATUS_1.2"',
        "_array_data.header_contents",
        ";",
        *PILATUS.splitlines(),
        ";",
        "_array_data.data",
        ";",
        "--CIF-BINARY-FORMAT-SECTION--",
        "Content-Type: application/octet-stream;",
        '     conversions="x-CBF_BYTE_OFFSET"',
        "Content-Transfer-Encoding: BINARY",
        f"X-Binary-Size: {len(packed)}",
        "X-Binary-ID: 1",
        f'X-Binary-Element-Type: "{CBF_NAMES[image.dtype.str[1:]]}"',
        "X-Binary-Element-Byte-Order: LITTLE_ENDIAN",
        *([f"Content-MD5: {base64.b64encode(hashlib.md5(packed).digest()).decode()}"] if checksum else []),
        f"X-Binary-Number-of-Elements: {height * width}",
        f"X-Binary-Size-Fastest-Dimension: {width}",
        f"X-Binary-Size-Second-Dimension: {height}",
        "X-Binary-Size-Padding: 1",
        "",
        "",
    ]
    text = "\r\n".join(lines).encode()
    return text + b"\x0c\x1a\x04\xd5" + packed + b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n"


def tiff(
    images: np.ndarray,
    big: bool = False,
    rows_per_strip: int | None = None,
    at_end: bool = False,
    description: str = "",
    tags: Mapping[int, int | bytes] | None = None,
) -> bytes:
    """Strips of pixels and a directory for each image, before or behind its pixels, in the byte order of the images."""
    mark = ">" if images.dtype.byteorder == ">" else "<"
    wide, code = (8, "Q") if big else (4, "I")
    head = (b"MM" if mark == ">" else b"II") + struct.pack(f"{mark}H", 43 if big else 42)
    body = bytearray(head + struct.pack(f"{mark}HHQ", 8, 0, 0) if big else head + bytes(4))
    link = len(body) - wide
    for image in images:
        rows = rows_per_strip or len(image)
        strips = [image[start : start + rows].tobytes() for start in range(0, len(image), rows)]
        text = description.encode() + b"\0"
        values = {
            256: image.shape[1],
            257: image.shape[0],
            258: 8 * image.itemsize,
            259: 1,
            262: 1,
            270: text,
            273: [0] * len(strips),
            277: 1,
            278: rows,
            279: [len(strip) for strip in strips],
            339: {"u": 1, "i": 2, "f": 3}[image.dtype.kind],
            **(tags or {}),
        }
        offsets, start = [], len(body)
        if at_end:
            for strip in reversed(strips):  # strips may lie in any order
                offsets.insert(0, len(body))
                body += strip
            start = len(body)
        count_size, entry_size = (8, 20) if big else (2, 12)
        behind = start + count_size + len(values) * entry_size + wide
        more = bytearray()
        entries = []

        def entry(tag: int, kind: int, count: int, data: bytes, behind: int = behind, more: bytearray = more) -> bytes:
            if len(data) > wide:
                more_at = behind + len(more)
                more += data
                data = struct.pack(mark + code, more_at)
            return struct.pack(f"{mark}HH{code}", tag, kind, count) + data.ljust(wide, b"\0")

        if not at_end:
            outside = [len(data) for data in (text,) if len(data) > wide]
            outside += [len(strips) * wide] * (2 if len(strips) > 1 else 0)
            place = behind + sum(outside)
            for strip in strips:
                offsets.append(place)
                place += len(strip)
        for tag, value in sorted(values.items()):
            if isinstance(value, bytes):
                entries.append(entry(tag, 2, len(value), value))
            elif isinstance(value, list):
                numbers = offsets if tag == 273 else value
                data = struct.pack(f"{mark}{len(numbers)}{code}", *numbers)
                entries.append(entry(tag, 16 if big else 4, len(numbers), data))
            else:
                entries.append(entry(tag, 3, 1, struct.pack(f"{mark}H", value)))
        struct.pack_into(mark + code, body, link, start)
        body += struct.pack(f"{mark}{'Q' if big else 'H'}", len(entries)) + b"".join(entries)
        link = len(body)
        body += bytes(wide) + more
        if not at_end:
            body += b"".join(strips)
    return bytes(body)


WRITERS = {
    "edf": edf,
    "cbf": lambda image: cbf(image.astype("i4")),
    "tif": lambda image: tiff(image[None]),
}


def write_series(folder: Path, images: np.ndarray, kind: str = "edf", first: int = 1, stem: str = "sample_") -> Path:
    for number, image in enumerate(images, start=first):
        (folder / f"{stem}{number:05d}.{kind}").write_bytes(WRITERS[kind](image))
    return folder / f"{stem}{first:05d}.{kind}"


def describe(path: Path):
    with SourceFile(path) as file:
        return ImageSeries.describe(file)


def matching(folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.iterdir()) if ImageSeries.matches(SourceFile(path))]


def all_frames(path: Path) -> np.ndarray:
    with ImageSeries.open(path) as source:
        return source.read(0, source.shape[0])


@pytest.mark.parametrize("kind", WRITERS)
def test_a_series_is_one_scan(tmp_path, kind):
    images = some_images(12)
    first = write_series(tmp_path, images, kind, first=8)
    assert matching(tmp_path) == ["sample_00008." + kind]
    found = describe(first)
    assert (found.num_frames, found.height, found.width) == (12, *SHAPE)
    assert found.itemsize == (4 if kind == "cbf" else 2)
    assert [path.name for path in found.companions] == [f"sample_{number:05d}.{kind}" for number in range(9, 20)]
    assert found.stem == "sample"
    assert ImageSeries.content is Content.FRAMES
    np.testing.assert_array_equal(all_frames(first), images)


@pytest.mark.parametrize("kind", ["edf", "tif"])
def test_several_images_in_a_file(tmp_path, kind):
    images = some_images(7)
    content = b"".join(map(edf, images)) if kind == "edf" else tiff(images)
    (tmp_path / f"stack.{kind}").write_bytes(content)
    assert matching(tmp_path) == [f"stack.{kind}"]
    assert describe(tmp_path / f"stack.{kind}").companions == ()
    np.testing.assert_array_equal(all_frames(tmp_path / f"stack.{kind}"), images)


@settings(deadline=None, max_examples=30)
@given(
    dtype=st.sampled_from(["<u1", "<u2", ">u2", "<u4", ">i4", "<f4"]),
    unit=st.sampled_from([512, 1024, 4096]),
    start=st.integers(0, 5),
    stop=st.integers(0, 8),
    step=st.integers(1, 4),
)
def test_edf_of_any_type(tmp_path_factory, dtype, unit, start, stop, step):
    images, path = some_images(6, dtype), tmp_path_factory.mktemp("edf") / "stack.edf"
    path.write_bytes(b"".join(edf(image, unit=unit) for image in images))
    with ImageSeries.open(path) as source:
        assert source.dtype == np.dtype(dtype).newbyteorder("=")
        assert source.shape == images.shape
        found = source.read(start, stop, step)
    assert found.dtype == source.dtype
    np.testing.assert_array_equal(found, images[start:stop:step])


@settings(deadline=None, max_examples=30)
@given(
    dtype=st.sampled_from(["<u1", "<u2", ">u2", "<i4", ">u4", "<f4", ">f8"]),
    big=st.booleans(),
    rows=st.sampled_from([None, 1, 4]),
    at_end=st.booleans(),
    num=st.integers(2, 5),
)
def test_tiff_of_any_layout(tmp_path_factory, dtype, big, rows, at_end, num):
    images, path = some_images(num, dtype), tmp_path_factory.mktemp("tiff") / "stack.tif"
    path.write_bytes(tiff(images, big, rows, at_end))
    assert ImageSeries.matches(SourceFile(path))
    np.testing.assert_array_equal(all_frames(path), images)


@settings(deadline=None, max_examples=30)
@given(
    dtype=st.sampled_from(["i4", "u4", "i2"]),
    values=st.lists(st.sampled_from([0, 1, 127, 128, -128, 2**15 - 1, -(2**15), 2**31 - 1, -(2**31)]), min_size=1),
)
def test_cbf_of_any_values(tmp_path_factory, dtype, values):
    folder = tmp_path_factory.mktemp("cbf")
    image = np.array([values], dtype=np.int64).astype(dtype)
    for number in (1, 2):
        (folder / f"a_{number}.cbf").write_bytes(cbf(image))
    np.testing.assert_array_equal(all_frames(folder / "a_1.cbf")[1], image)


def test_fabio_reads_the_same(tmp_path):
    """That the files of these tests are what others take for EDF, CBF and TIFF."""
    fabio = pytest.importorskip("fabio")
    for kind, dtype in [("edf", "u2"), ("cbf", "i4"), ("tif", "u4")]:
        images = np.minimum(some_images(3, dtype), 1000)  # fabio mistakes CBF differences of more than 32 bits
        write_series(tmp_path, images, kind)
        with ImageSeries.open(tmp_path / f"sample_00001.{kind}") as source:
            for number in range(3):
                with fabio.open(str(tmp_path / f"sample_0000{number + 1}.{kind}")) as other:
                    np.testing.assert_array_equal(source.read(number, number + 1)[0], other.data)
    (tmp_path / "stack.edf").write_bytes(b"".join(map(edf, some_images(3))))
    with fabio.open(str(tmp_path / "stack.edf")) as other:
        assert other.nframes == describe(tmp_path / "stack.edf").num_frames == 3


def test_many_threads_may_read(tmp_path):
    images = some_images(40)
    first = write_series(tmp_path, images, "cbf")
    with ImageSeries.open(first) as source, ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(lambda start: source.read(start, start + 3), range(0, 40, 3)))
    np.testing.assert_array_equal(np.concatenate(blocks), images)


def test_metadata_of_saxs_programs(tmp_path):
    keys = {
        "count_time": 0.05,
        "PSize_1": "7.5e-05",
        "Center_1": 120.5,
        "Center_2": 40,
        "Offset_2": 10,
        "SampleDistance": "4.95",
        "WaveLength": "1.2398e-10",
        "acq_frame_nb": 0,
        "time_of_day": "1404213022.250000",
    }
    for number in range(5):
        more = {"acq_frame_nb": number, "time_of_frame": f"{0.01 + 0.125 * number:.6f}"}
        (tmp_path / f"a_{number:04d}.edf").write_bytes(edf(some_images()[number], {**keys, **more}))
    found = describe(tmp_path / "a_0000.edf").metadata
    assert found.frame_time == pytest.approx(0.125, rel=1e-9)
    assert (found.count_time, found.start_time) == (0.05, 1404213022.25)
    assert (found.pixel_size, found.distance) == (75e-6, 4.95)
    assert (found.beam_center_x, found.beam_center_y) == (120.0, 29.5)  # from the middle of the first pixel
    assert found.energy == pytest.approx(10.00032, abs=2e-5)


def test_metadata_of_single_acquisitions(tmp_path):
    """A loop of exposures: each is frame 0 of an acquisition of its own, the clock alone tells the period."""
    for number in range(4):
        keys = {"acq_frame_nb": 0, "time_of_frame": 0.0, "time_of_day": 1404213022 + 2.5 * number}
        (tmp_path / f"a_{number}.edf").write_bytes(edf(some_images()[number], keys))
    assert matching(tmp_path) == ["a_0.edf"]
    assert describe(tmp_path / "a_0.edf").num_frames == 4
    assert describe(tmp_path / "a_0.edf").metadata.frame_time == 2.5


@pytest.mark.parametrize("kind", ["cbf", "tif"])
def test_metadata_of_pilatus(tmp_path, kind):
    for number in (1, 2):
        image = some_images(dtype="i4")[number]
        content = cbf(image) if kind == "cbf" else tiff(image[None], description=PILATUS)
        (tmp_path / f"a_{number}.{kind}").write_bytes(content)
    found = describe(tmp_path / f"a_1.{kind}").metadata
    assert (found.frame_time, found.count_time, found.start_time) == (0.1, 0.097, 1275905410.125)
    assert (found.pixel_size, found.distance) == (172e-6, 5.3)
    assert (found.beam_center_x, found.beam_center_y) == (243.25, 309.5)
    assert found.energy == pytest.approx(10.00032, abs=2e-5)
    assert found.detector == "PILATUS 300K"


def test_without_metadata_nothing_is_invented(tmp_path):
    found = describe(write_series(tmp_path, some_images(), "tif")).metadata
    assert not found.has_frame_time
    assert all(math.isnan(value) for value in (found.start_time, found.energy, found.beam_center_x))


def acquisition(folder: Path, starts: list[int], per_file: int, first_file: int = 0) -> None:
    """Files of LImA: images numbered from 0 in each acquisition, files numbered through."""
    number = first_file
    for size in starts:
        for begin in range(0, size, per_file):
            images = some_images(size)[begin : begin + per_file]
            content = [edf(image, {"acq_frame_nb": begin + index}) for index, image in enumerate(images)]
            (folder / f"run_{number:04d}.edf").write_bytes(b"".join(content))
            number += 1


@pytest.mark.parametrize(("per_file", "firsts"), [(1, [0, 6, 10]), (2, [0, 3, 5]), (4, [0, 2, 3])])
def test_acquisitions_that_share_a_prefix_are_scans_of_their_own(tmp_path, per_file, firsts):
    acquisition(tmp_path, [6, 4, 5], per_file)
    names = [f"run_{number:04d}.edf" for number in firsts]
    assert matching(tmp_path) == names
    for name, size in zip(names, (6, 4, 5), strict=True):
        np.testing.assert_array_equal(all_frames(tmp_path / name), some_images(size))


def test_stacks_that_do_not_count_on_are_scans_of_their_own(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / f"stack_{number}.tif").write_bytes(tiff(some_images(number + 1)))
    assert matching(tmp_path) == ["stack_1.tif", "stack_2.tif", "stack_3.tif"]
    assert [describe(tmp_path / f"stack_{number}.tif").num_frames for number in (1, 2, 3)] == [2, 3, 4]


def test_series_are_told_apart_by_all_but_the_last_number(tmp_path):
    for name in ("a_1_01", "a_1_02", "a_2_01", "a_2_02", "b01_dark", "b02_dark", "single_7", "single"):
        (tmp_path / f"{name}.edf").write_bytes(edf(some_images()[0]))
    (tmp_path / "a_1_03.tif").write_bytes(tiff(some_images(1)))
    assert matching(tmp_path) == ["a_1_01.edf", "a_2_01.edf", "b01_dark.edf"]


def test_files_in_the_order_of_their_numbers(tmp_path):
    images = some_images(12)
    for number, image in enumerate(images):
        (tmp_path / f"a_{number}.edf").write_bytes(edf(image))
    np.testing.assert_array_equal(all_frames(tmp_path / "a_0.edf"), images)


def remove(folder: Path) -> None:
    (folder / "sample_00003.edf").unlink()


def renumber(folder: Path) -> None:
    """More files would be missing than there are."""
    (folder / "sample_00005.edf").rename(folder / "sample_00010.edf")


def widen(folder: Path) -> None:
    (folder / "sample_00003.edf").write_bytes(edf(np.zeros((9, 14), np.uint16)))


def retype(folder: Path) -> None:
    (folder / "sample_00003.edf").write_bytes(edf(np.zeros(SHAPE, np.uint32)))


def cut(folder: Path) -> None:
    path = folder / "sample_00003.edf"
    path.write_bytes(path.read_bytes()[:-1])


def empty(folder: Path) -> None:
    (folder / "sample_00003.edf").write_bytes(b"")


def twice(folder: Path) -> None:
    (folder / "sample_3.edf").write_bytes(edf(some_images()[0]))


def empty_first(folder: Path) -> None:
    (folder / "sample_00001.edf").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (renumber, r"sample_00010\.edf: expected number 5 after sample_00004\.edf, found 10"),
        (widen, r"sample_00003\.edf: expected .*uint16 \(9, 13\).*found uint16 \(9, 14\)"),
        (retype, r"sample_00003\.edf: .*found uint32 \(9, 13\)"),
        (twice, r"sample_3\.edf: expected number 4 after sample_00003\.edf, found 3"),
        (empty_first, r"sample_00001\.edf: .*found none of them"),
    ],
)
def test_faults_are_told_in_one_line(tmp_path, damage, reason):
    write_series(tmp_path, some_images())
    damage(tmp_path)
    assert matching(tmp_path) == ["sample_00001.edf"]
    for look in (describe, all_frames):
        with pytest.raises(ScanError, match=reason) as error:
            look(tmp_path / "sample_00001.edf")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("per_file", [1, 2])
def test_files_that_are_not_there_are_missing_frames(tmp_path, per_file):
    images = some_images(5 * per_file)
    for number, start in enumerate(range(0, len(images), per_file), start=1):
        stack = [
            edf(image, {"acq_frame_nb": start + index}) for index, image in enumerate(images[start : start + per_file])
        ]
        (tmp_path / f"sample_{number:05d}.edf").write_bytes(b"".join(stack))
    remove(tmp_path)
    first = tmp_path / "sample_00001.edf"
    expected = images.copy()
    expected[2 * per_file : 3 * per_file] = 0
    np.testing.assert_array_equal(all_frames(first), expected)
    found = describe(first)
    assert (found.num_frames, found.missing) == (len(images), {1: "1 frames (2)", 2: "2 frames (4..5)"}[per_file])
    assert [path.name for path in found.companions] == [f"sample_0000{number}.edf" for number in (2, 4, 5)]
    with ImageSeries.open(first) as source:
        assert source.missing.frames.tolist() == list(range(2 * per_file, 3 * per_file))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, r"sample_00003\.edf.*expected 234 bytes of pixels at 512, found 233"),
        (empty, r"sample_00003\.edf.*found none of them"),
    ],
)
def test_a_damaged_image_is_told_when_it_is_read(tmp_path, damage, reason):
    """The others are what they are: it may be left out."""
    images = some_images()
    first = write_series(tmp_path, images)
    damage(tmp_path)
    assert describe(first).num_frames == len(images)
    with ImageSeries.open(first) as source:
        np.testing.assert_array_equal(source.read(0, 2), images[:2])
        np.testing.assert_array_equal(source.read(3, 5), images[3:5])
        with pytest.raises(ScanError, match=reason) as error:
            source.read(0, 5)
    assert "\n" not in str(error.value)


def test_a_file_that_changed_since_is_named(tmp_path):
    first = write_series(tmp_path, some_images())
    with ImageSeries.open(first) as source:
        retype(tmp_path)
        with pytest.raises(ScanError, match=r"sample_00003\.edf image 0 \(frame 2\).*found uint32"):
            source.read(0, 5)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (edf(some_images()[0], {"DataType": "Complex"}), "DataType"),
        (edf(some_images()[0], {"Dim_1": 10**9, "Dim_2": 10**9, "Size": None}), "bytes of pixels"),
        (edf(some_images()[0], {"Dim_1": 10**9, "Dim_2": 10**9}), "Size of at least"),
        (edf(some_images()[0], {"Dim_1": "-13"}), "number from 1"),
        (edf(some_images()[0], {"Dim_3": 4}), "two dimensions"),
        (edf(some_images()[0], {"Compression": "GZIP"}), "compressed"),
        (edf(some_images()[0], {"EDF_BinaryFileName": "/etc/passwd"}), "another file"),
        (cbf(some_images(dtype="i4")[0], size=(10**5, 10**5)), "each of a byte at least"),
        (cbf(some_images(dtype="i4")[0], size=(9, 12)), "expected 108 pixels"),
        (cbf(some_images(dtype="i4")[0], packed=byte_offset(some_images(dtype="i4")[0])[:-1]), "expected 117 pixels"),
        (cbf(some_images(dtype="i4")[0], packed=bytes(116) + b"\x80", checksum=False), "expected 117 pixels"),
        (cbf(some_images(dtype="i4")[0]).replace(b"_BYTE_OFFSET", b"_PACKED"), "x-CBF_BYTE_OFFSET"),
        (cbf(some_images(dtype="i4")[0])[:700], "no beginning"),
        (tiff(some_images(1), tags={277: 3}), "3 of 16 bits"),
        (tiff(some_images(1), tags={259: 5}), "compression 5"),
        (tiff(some_images(1), tags={258: 12}), "12 bits"),
        (tiff(some_images(1), tags={256: 60000, 257: 60000}), "bytes in strips"),
        (tiff(some_images(1), tags={262: 2}), "colours 2"),
        (tiff(some_images(1), tags={322: 16}), "tiles"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, content, reason):
    for number in (1, 2):
        (tmp_path / f"a_{number}.img").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ScanError, match=reason) as error:
        all_frames(tmp_path / "a_1.img")
    assert tracemalloc.get_traced_memory()[1] < 2**25  # what fabio takes to be imported
    tracemalloc.stop()
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def test_a_checksum_tells_flipped_bits(tmp_path):
    content = bytearray(cbf(some_images(dtype="i4")[0]))
    content[content.index(b"\x0c\x1a\x04\xd5") + 20] ^= 1
    for number in (1, 2):
        (tmp_path / f"a_{number}.cbf").write_bytes(content)
    with pytest.raises(ScanError, match=r"a_1\.cbf image 0 \(frame 0\).*MD5"):
        all_frames(tmp_path / "a_1.cbf")


def test_directories_that_go_round_come_to_an_end(tmp_path):
    content = bytearray(tiff(some_images(2)))
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    (tmp_path / "a.tif").write_bytes(content)
    assert matching(tmp_path) == ["a.tif"]
    with pytest.raises(ScanError, match="again"):
        describe(tmp_path / "a.tif")


def test_a_tail_of_zeros_is_no_end(tmp_path):
    """As a disk that was full leaves it: the frames in there are missing."""
    content = b"".join(map(edf, some_images()))
    (tmp_path / "a.edf").write_bytes(content + bytes(100))
    assert describe(tmp_path / "a.edf").num_frames == 5
    (tmp_path / "a.edf").write_bytes(content[: 3 * 746] + bytes(2 * 746))
    with pytest.raises(ScanError, match="expected a header"):
        describe(tmp_path / "a.edf")


def test_a_general_header_speaks_for_all(tmp_path):
    general = (
        b"{\nEDF_DataBlockID = 0.Header ;\nEDF_DataFormatVersion = 2.40 ;\nEDF_BinarySize = 0 ;\nPSize_1 = 1e-4 ;\n}\n"
    )
    (tmp_path / "a.edf").write_bytes(general + b"".join(map(edf, some_images())))
    assert describe(tmp_path / "a.edf").metadata.pixel_size == 1e-4
    np.testing.assert_array_equal(all_frames(tmp_path / "a.edf"), some_images())


def test_other_files_do_not_match(tmp_path):
    (tmp_path / "a_1.json").write_text('{"DataType": "UnsignedShort"}\n')
    (tmp_path / "a_2.json").write_text("{}\n")
    (tmp_path / "b_1.csv").write_text("time,value\n0,1\n")
    (tmp_path / "b_2.csv").write_text("time,value\n0,1\n")
    (tmp_path / "c.tif").write_bytes(tiff(some_images(1)))
    (tmp_path / "d_1.cbf").write_bytes(cbf(some_images(dtype="i4")[0]))
    (tmp_path / "folder_1.edf").mkdir()
    assert matching(tmp_path) == []
    for name in ("absent_1.edf", "."):
        assert not ImageSeries.matches(SourceFile(tmp_path / name))
        with pytest.raises(ScanError):
            describe(tmp_path / name)


def test_matches_is_cheap_in_a_folder_of_many_files(tmp_path):
    content = edf(some_images()[0], {"acq_frame_nb": 1})
    for number in range(5000):
        (tmp_path / f"a_{number:05d}.edf").write_bytes(content)
    paths = sorted(tmp_path.iterdir())
    start = time.perf_counter()
    assert [path for path in paths if ImageSeries.matches(SourceFile(path))] == paths[:1]
    assert time.perf_counter() - start < 5.0  # 0.3 s on 2 cores


def survive(path: Path) -> None:
    """Only ScanError comes out of any file."""
    with SourceFile(path) as file:
        ImageSeries.matches(file)
        with suppress(ScanError):
            ImageSeries.describe(file)
    with suppress(ScanError), ImageSeries.open(path) as source:
        source.read(0, min(source.shape[0], 16))


GOOD = {
    "edf": b"".join(edf(image, {"acq_frame_nb": number}) for number, image in enumerate(some_images())),
    "cbf": cbf(some_images(dtype="i4")[0]),
    "unchecked.cbf": cbf(some_images(dtype="i4")[0], checksum=False),
    "tif": tiff(some_images(), rows_per_strip=4),
    "big.tif": tiff(some_images(), big=True, at_end=True),
}


@settings(deadline=None, max_examples=50)
@given(kind=st.sampled_from(sorted(GOOD)), data=st.data())
def test_damaged_files_give_nothing_but_scan_errors(tmp_path_factory, kind, data):
    folder, content = tmp_path_factory.mktemp("damaged"), bytearray(GOOD[kind])
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=8)):
        content[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
    for number in (1, 2):
        (folder / f"a_{number}.{kind}").write_bytes(content)
    survive(folder / f"a_1.{kind}")
    (folder / f"alone.{kind}").write_bytes(content)
    survive(folder / f"alone.{kind}")


@settings(deadline=None, max_examples=40)
@given(
    magic=st.sampled_from(
        [b"", b"{\nHeaderID = 1 ;\n", b"###CBF: ", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0"]
    ),
    content=st.binary(max_size=600),
)
def test_random_bytes(tmp_path_factory, magic, content):
    folder = tmp_path_factory.mktemp("random")
    for number in (1, 2):
        (folder / f"a_{number}.img").write_bytes(magic + content)
    survive(folder / "a_1.img")
