"""The parts of corrections, against plain loops: kernels, and the files of images and monitors."""

from __future__ import annotations

import contextlib
import statistics
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ainerd_hpc.correlation.counts.dead_values import MarkedFrames
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.images import place_of, read_image
from ainerd_hpc.formats.beside.monitors import read_monitor
from ainerd_hpc.formats.events.blocks import EventFrames
from ainerd_hpc.kernels.corrections import correct, has_marked, hot_pixels, mark, outlying_frames
from ainerd_hpc.kernels.event_frames import EventBlock
from ainerd_hpc.kernels.gather import find_events

RNG = np.random.default_rng


counts_and_images = st.integers(1, 6).flatmap(
    lambda num: st.tuples(
        hnp.arrays(np.uint16, (3, num), elements=st.integers(0, 300)),
        hnp.arrays(np.float64, num, elements=st.floats(-10, 300)),
        hnp.arrays(np.float64, num, elements=st.floats(0.1, 10)),
        st.one_of(st.none(), st.floats(-5, 50)),
    )
)


@given(counts_and_images)
def test_counts_are_corrected_one_by_one(case: tuple[Any, ...]) -> None:
    counts, dark, flat, threshold = case
    before = counts.copy()
    found = correct(counts, dark, flat, threshold)
    for t, p in np.ndindex(counts.shape):
        value = float(counts[t, p]) - float(dark[p])
        value = 0.0 if threshold is not None and value < threshold else value
        assert found[t, p] == value / float(flat[p])
    np.testing.assert_array_equal(counts, before)


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.int32]), (4, 7), elements=st.sampled_from([0, 1, 3, 100])),
    st.lists(st.sampled_from([1, 3, 100, 4095]), max_size=2),
    st.sampled_from([None, 2, 100, 70000]),
)
def test_marked_values_are_dead_in_frames_and_seen_in_events(
    frames: np.ndarray, sentinels: list[int], saturation: int | None
) -> None:
    def is_dead(value: int) -> bool:
        return value in sentinels or (saturation is not None and value >= saturation)

    no_counts = [(value, value) for value in sentinels] + ([] if saturation is None else [(saturation, np.inf)])
    found, largest = mark(frames, no_counts), np.iinfo(frames.dtype).max
    for place, value in np.ndenumerate(frames):
        assert found[place] == (largest if is_dead(int(value)) else value)
    assert found.dtype == frames.dtype
    events = find_events(frames, np.arange(7, dtype=np.int32), np.zeros(7, bool))
    assert has_marked(events, 7, no_counts) == bool((found != frames).any())
    floats = mark(frames.astype(np.float32), no_counts)
    np.testing.assert_array_equal(np.isnan(floats), found != frames)


def limit_truth(values: Sequence[float], threshold: float) -> float:
    if not values:
        return np.inf
    middle = statistics.median(values)
    noise = 1.4826 * statistics.median(abs(value - middle) for value in values)
    mean = max(middle, 0) + np.log(2)
    return middle + max(threshold * noise, np.log(2) + threshold * mean**0.5 + threshold**2 / 6)


def hot_truth(sums: np.ndarray, q_bins: np.ndarray, static_bins: np.ndarray, threshold: float) -> set[int]:
    """Each pixel by the pixels of its static bin that are not hot, where these are 8 or more, else of its q-bin."""
    hot: set[int] = set()
    for _ in range(2):
        found = set()
        for pixel in range(len(sums)):
            for labels in (static_bins, q_bins):
                like = [i for i in range(len(sums)) if labels[i] == labels[pixel] and i not in hot]
                if len(like) >= 8 or labels is q_bins:
                    break
            if sums[pixel] > limit_truth([float(sums[i]) for i in like], threshold):
                found.add(pixel)
        hot |= found
    return hot


@settings(max_examples=40)
@given(st.data())
def test_hot_pixels_are_those_of_the_definition(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.lists(st.integers(1, 14), min_size=1, max_size=3), min_size=1, max_size=3))
    q_bins = np.repeat(np.arange(len(sizes)), [sum(one) for one in sizes])
    static = np.repeat(np.arange(sum(map(len, sizes))) + 1, np.concatenate(sizes))
    usual = st.one_of(st.integers(0, 5), st.integers(20, 30), st.integers(200, 10**6))
    sums = data.draw(hnp.arrays(np.float64, len(q_bins), elements=usual.map(float)))
    threshold = data.draw(st.floats(0.5, 8))
    bounds = np.searchsorted(q_bins, np.arange(len(sizes) + 1))
    found = hot_pixels(sums, bounds, static, threshold)
    assert set(np.flatnonzero(found).tolist()) == hot_truth(sums, q_bins, static, threshold)


@pytest.mark.parametrize("mean", [0.001, 0.3, 0.69, 1.0, 4.0, 300.0])
def test_lucky_pixels_are_not_hot_and_hot_ones_are(mean: float) -> None:
    """Poisson counts: exp(-18) of them are allowed to be lost at 6."""
    sums = RNG(int(mean * 1000)).poisson(mean, 100_000)
    hot = np.array([5, 40_000, 99_999])
    assert not hot_pixels(sums, np.array([0, 100_000]), np.ones(100_000, int), 6).any()
    sums[hot] = 20 * mean + 30
    found = hot_pixels(sums, np.array([0, 50_000, 100_000]), np.arange(100_000) // 1000 + 1, 6)
    np.testing.assert_array_equal(np.flatnonzero(found), hot)


def outlying_truth(totals: np.ndarray, threshold: float) -> list[bool]:
    padded = np.pad(totals, 50, mode="symmetric")
    middle = np.array([statistics.median(padded[t : t + 101].tolist()) for t in range(len(totals))])
    residual = (totals - middle).tolist()
    center = statistics.median(residual)
    noise = 1.4826 * statistics.median(abs(one - center) for one in residual)
    return [
        abs(one) > max(threshold * noise, limit_truth([median], threshold) - median)
        for one, median in zip(residual, middle.tolist(), strict=True)
    ]


@settings(max_examples=30)
@given(hnp.arrays(np.float64, st.integers(1, 230), elements=st.integers(0, 2000).map(float)), st.floats(0.5, 8))
def test_outlying_frames_are_those_of_the_definition(totals: np.ndarray, threshold: float) -> None:
    assert outlying_frames(totals, threshold).tolist() == outlying_truth(totals, threshold)


@pytest.mark.parametrize("mean", [0.01, 1.0, 30.0, 1e5])
def test_no_frame_is_bad_by_chance_and_a_drifting_beam_is_good(mean: float) -> None:
    drift = 1 + 0.3 * np.sin(np.arange(20_000) / 700)
    totals = RNG(3).poisson(mean * drift).astype(float)
    assert not outlying_frames(totals, 6).any()
    bad = [0, 7000, 7001, 19_999]
    totals[bad] = 3 * totals.max() + 40
    assert np.flatnonzero(outlying_frames(totals, 6)).tolist() == bad
    assert outlying_frames(np.empty(0), 6).tolist() == []


def edf_of(image: np.ndarray) -> bytes:
    header = f"{{\nByteOrder = LowByteFirst ;\nDataType = FloatValue ;\nDim_1 = {image.shape[1]} ;\n"
    header += f"Dim_2 = {image.shape[0]} ;\n"
    return (header + " " * (510 - len(header)) + "}\n").encode() + image.astype("<f4").tobytes()


def tiff_of(image: np.ndarray) -> bytes:
    """Baseline TIFF of one strip of float32."""
    data, (height, width) = image.astype("<f4").tobytes(), image.shape
    tags = [(256, width), (257, height), (258, 32), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(data)), (339, 3)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_images_are_read_from_what_programs_write(tmp_path: Path) -> None:
    image = RNG(0).random((5, 7)).astype(np.float32)
    series = RNG(1).poisson(9, (11, 5, 7)).astype(np.uint16)
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "series.npy", series)
    (tmp_path / "image.edf").write_bytes(edf_of(image))
    (tmp_path / "image.tif").write_bytes(tiff_of(image))
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["deep/image"] = image
    with h5py.File(tmp_path / "more.h5", "w") as file:
        file["entry/data/data"] = series
        file["image"] = image.astype(">f8")
        file["number"] = 3
    for name in ("image.npy", "image.edf", "image.tif", "one.h5", "one.h5:/deep/image", "more.h5:/image"):
        found = read_image(place_of(tmp_path / name))
        assert found.dtype == np.float64, name
        np.testing.assert_array_equal(found, image, err_msg=name)
    for name in ("series.npy", "more.h5", "more.h5:/entry/data/data"):
        np.testing.assert_allclose(read_image(place_of(tmp_path / name)), series.mean(axis=0), rtol=1e-14)


def test_dead_values_of_a_series_are_told_and_lost_frames_do_not_count(tmp_path: Path) -> None:
    series = RNG(1).poisson(9, (6, 5, 7)).astype(np.uint16)
    series[2] = 65535
    series[4, 1, 3] = 65535
    np.save(tmp_path / "dark.npy", series)
    expected = np.delete(series, 2, axis=0).mean(axis=0)
    expected[1, 3] = np.nan
    np.testing.assert_allclose(read_image(place_of(tmp_path / "dark.npy")), expected, rtol=1e-14)


BROKEN = {
    "line.npy": np.arange(5.0),
    "text.npy": np.array([["a"]]),
    "object.npy": np.array([[{}]], dtype=object),
    "empty.npy": np.empty((0, 3, 4)),
}


@pytest.mark.parametrize("name", [*BROKEN, "nothing", "none.h5", "two.h5", "two.h5:/c", "empty.tif", "text.csv"])
def test_what_is_no_image_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    for file, array in BROKEN.items():
        np.save(tmp_path / file, array)
    with h5py.File(tmp_path / "two.h5", "w") as two:
        two["a"], two["b"] = np.ones((2, 3)), np.ones((2, 3))
    h5py.File(tmp_path / "none.h5", "w").close()
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.csv").write_text("1,2\n")
    with pytest.raises(ScanError) as error:
        read_image(place_of(tmp_path / name))
    assert "\n" not in str(error.value)
    assert name.partition(":")[0] in str(error.value)


@settings(max_examples=40)
@given(data=st.data())
def test_damaged_images_raise_nothing_else(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    np.save(folder / "a.npy", np.ones((3, 4)))
    with h5py.File(folder / "a.h5", "w") as file:
        file["image"] = np.ones((3, 4))
    (folder / "a.tif").write_bytes(tiff_of(np.ones((3, 4))))
    path = folder / data.draw(st.sampled_from(["a.npy", "a.h5", "a.tif"]))
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(ScanError):
        assert read_image(place_of(path)).ndim == 2


def test_monitors_are_read_from_datasets_and_files(tmp_path: Path) -> None:
    values = RNG(0).random(6)
    for name, dataset in (("scan.h5", "entry/a"), ("scan_metadata.hdf", "entry/b")):
        with h5py.File(tmp_path / name, "w") as file:
            file[dataset] = values.reshape(1, -1)
    np.save(tmp_path / "scan_i0.npy", values)
    lines = [f"{value!r}" for value in values.tolist()]
    (tmp_path / "plain.csv").write_text("\n".join(lines))
    (tmp_path / "named.csv").write_text("i0\n" + "\n".join(lines) + "\n")
    rows = [f"{t},{line}" for t, line in enumerate(lines)]
    (tmp_path / "scan.csv").write_text("number, Monitor\n" + "\n".join(rows))
    scan, metadata = tmp_path / "scan.h5", [tmp_path / "other.hdf", tmp_path / "scan_metadata.hdf"]
    for monitor in ("entry/a", "/entry/b", "{stem}_i0.npy", "plain.csv", "named.csv", "{stem}.csv"):
        np.testing.assert_array_equal(read_monitor(monitor, scan, metadata, 6), values, err_msg=monitor)


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("entry/none", "expected the beam monitor entry/none in scan.h5, found no such dataset"),
        ("entry/a", r"expected a beam monitor of 6 numbers, one a frame, found .* \(5,\)"),
        ("entry/image", r"found .* \(2, 3\)"),
        ("{stem}.csv", r"cannot read it as a beam monitor: .*No such file"),
        ("words.csv", "cannot read it as a beam monitor: could not convert"),
        ("two.csv", "expected one column, or one called monitor, found a, b"),
        ("empty.csv", r"found .* \(0,\)"),
        ("pickle.npy", "cannot read it as a beam monitor: "),
    ],
)
def test_what_is_no_monitor_is_said_in_one_line(monitor: str, message: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["entry/a"], file["entry/image"] = np.ones(5), np.ones((2, 3))
    (tmp_path / "words.csv").write_text("i0\n1\nmany\n")
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").touch()
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object))
    with pytest.raises(ScanError, match=message) as error:
        read_monitor(monitor, tmp_path / "scan.h5", [], 6)
    assert "\n" not in str(error.value)


class Bursts(EventFrames):
    """A detector that writes photons one by one."""

    def __init__(self, frames: np.ndarray) -> None:
        super().__init__("bursts", frames.shape)
        self.frames = frames

    def events(self, start: int, stop: int) -> EventBlock:
        pixels = [np.repeat(np.arange(one.size), one.ravel()) for one in self.frames[start:stop]]
        pixel = np.concatenate(pixels).astype(np.int32)
        return EventBlock(pixel, np.ones(len(pixel), np.uint32), np.cumsum([len(one) for one in pixels]))


@pytest.mark.parametrize(("value", "is_dead"), [(1, False), (29, False), (30, True), (31, False), (40, True)])
def test_events_of_one_pixel_and_frame_are_added_up_before_they_are_judged(value: int, is_dead: bool) -> None:
    frames = np.zeros((3, 2, 4), np.int64)
    frames[1, 1, 2] = value
    marked = MarkedFrames(Bursts(frames), ((30, 30), (40, np.inf)))
    position, dead = np.arange(8, dtype=np.int32), np.zeros(8, bool)
    found = marked.find(0, 3, position, dead)
    assert (found is None) == is_dead
    find_events(marked.read(0, 3).reshape(3, 8), position, dead)
    assert dead.tolist() == [False] * 6 + [is_dead, False]
    elsewhere = np.where(position == 6, -1, position).astype(np.int32)
    assert marked.find(0, 3, elsewhere, np.zeros(8, bool)) is not None
