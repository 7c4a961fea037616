"""Partition files: geometry against scalar formulas, round trips, phi bins, broken files."""

from __future__ import annotations

import contextlib
import hashlib
import math

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.partitions.partition import (
    Geometry,
    is_partition,
    make_qmap,
    make_ring_partition,
    read_partition,
    read_qmap,
    write_partition,
)
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.partitioning import axis_over, even_axis

GEOMETRY = Geometry(beam_center_x=5.0, beam_center_y=10.5, pixel_size=75e-6, distance=5.0, energy=10.0)


def some_mask(height: int = 24, width: int = 40) -> np.ndarray:
    mask = np.ones((height, width), dtype=bool)
    mask[8:14, :9] = False
    mask[3, 20] = False
    return mask


def write_qmap(path, **changes) -> None:
    """A partition with 2 q x 3 phi bins in plain h5py, whose bin (q 0, phi 1) is empty; `changes` replace datasets."""
    dynamic = np.repeat([[1, 2, 3, 4, 5, 0]], 4, axis=0).astype(np.uint8)
    content = {
        "mask": np.ones((4, 6), np.uint8),
        "dynamic_roi_map": dynamic,
        "static_roi_map": np.where(dynamic > 0, 2 * dynamic - np.array([[1], [1], [0], [0]], np.uint8), 0),
        "dynamic_num_pts": [2, 3],
        "dynamic_v_list_dim0": [0.01, 0.02],
        "dynamic_v_list_dim1": [-120.0, 0.0, 120.0],
        "dynamic_index_mapping": [0, 2, 3, 4, 5],
        "map_names": ["q", "phi"],
        "map_units": ["Å⁻¹", "deg"],
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[f"qmap/{name}"] = value


def test_q_is_the_scattering_vector_of_each_pixel():
    q = GEOMETRY.q_map(24, 40)
    wavelength = 12.39841984 / 10.0
    for y, x in [(0, 0), (10, 5), (23, 39)]:
        radius = 75e-6 * math.hypot(y - 10.5, x - 5.0)
        expected = 4 * math.pi / wavelength * math.sin(0.5 * math.atan(radius / 5.0))
        assert q[y, x] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("spacing", ["linear", "log"])
def test_rings_hold_the_pixels_between_their_edges(spacing):
    mask = some_mask()
    rings = make_ring_partition(mask, GEOMETRY, 3, 4, spacing)
    q = GEOMETRY.q_map(*mask.shape)
    low, high = q[mask].min(), q[mask].max()
    for label in (1, 2, 3):
        inside = q[rings.partition.dynamic_roi_map == label]
        share = [(label - 1) / 3, label / 3]
        edges = [low + s * (high - low) if spacing == "linear" else low * (high / low) ** s for s in share]
        assert edges[0] - 1e-11 <= inside.min()
        assert inside.max() <= edges[1] + 1e-11
        centre = sum(edges) / 2 if spacing == "linear" else math.sqrt(edges[0] * edges[1])
        assert rings.partition.dynamic_q_list[label - 1] == pytest.approx(centre, rel=1e-9)
    np.testing.assert_array_equal(rings.partition.dynamic_roi_map > 0, mask)


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(3, 30),
    width=st.integers(3, 30),
    num_q=st.integers(1, 6),
    num_static=st.integers(1, 5),
    spacing=st.sampled_from(["linear", "log"]),
    seed=st.integers(0, 9),
)
def test_round_trip(tmp_path_factory, height, width, num_q, num_static, spacing, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.7
    mask[0, 0] = mask[-1, -1] = True
    rings = make_ring_partition(mask, GEOMETRY, num_q, num_static, spacing)
    path = tmp_path_factory.mktemp("qmap") / "qmap.hdf"
    write_partition(path, rings, GEOMETRY)
    found = read_partition(path)
    assert is_partition(SourceFile(path))
    assert found.digest == rings.partition.digest
    for name in ("mask", "dynamic_roi_map", "static_roi_map", "dynamic_q_list"):
        expected, value = getattr(rings.partition, name), getattr(found, name)
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)
    for label in np.unique(found.static_roi_map[mask]):
        assert len(np.unique(found.dynamic_roi_map[found.static_roi_map == label])) == 1


def test_written_file_has_the_layout_of_the_peers(tmp_path):
    path = tmp_path / "qmap.hdf"
    rings = make_ring_partition(some_mask(), GEOMETRY, 3, 4)
    write_partition(path, rings, GEOMETRY, "simulated")
    with h5py.File(path) as file:
        group = file["qmap"]
        names = {"mask", "blemish", "map_names", "map_units", "beam_center_x", "beam_center_y", "pixel_size"}
        names |= {"detector_distance", "energy", "source_file"}
        for kind in ("dynamic", "static"):
            names |= {
                f"{kind}_{part}" for part in ("roi_map", "num_pts", "v_list_dim0", "v_list_dim1", "index_mapping")
            }
        assert set(group) == names
        assert set(group.attrs) == {"hash", "version", "description"}
        assert group["dynamic_roi_map"].dtype == np.uint8
        assert list(group["static_num_pts"]) == [12, 1]
        assert list(group["map_units"].asstr()) == ["Å⁻¹", "deg"]
        attributes = dict(group["dynamic_v_list_dim0"].attrs)
        np.testing.assert_array_equal(attributes.pop("edges"), rings.dynamic.q_edges)
        assert attributes == {"name": "q", "unit": "Å⁻¹", "size": 3}
        assert group["detector_distance"][()] == 5.0
        assert group["energy"][()] == 10.0


def test_same_input_gives_the_same_bytes(tmp_path):
    rings = make_ring_partition(some_mask(), GEOMETRY, 3, 4)
    for name in ("a", "b"):
        write_partition(tmp_path / name, rings, GEOMETRY)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_phi_partition_with_an_empty_bin(tmp_path):
    path = tmp_path / "qmap.hdf"
    write_qmap(path)
    partition = read_partition(path)
    np.testing.assert_array_equal(partition.dynamic_q_list, [0.01, 0.01, 0.02, 0.02, 0.02])
    assert partition.static_roi_map.max() == 10


def test_lists_of_phi_follow_the_labels(tmp_path):
    write_qmap(tmp_path / "qmap.hdf", static_num_pts=[1, 10], static_v_list_dim0=[0.01], **STATIC)
    partition = read_partition(tmp_path / "qmap.hdf")
    np.testing.assert_array_equal(partition.dynamic_phi_list, [-120.0, 120.0, -120.0, 0.0, 120.0])
    np.testing.assert_array_equal(partition.static_phi_list, np.arange(10.0))


STATIC = {"static_v_list_dim1": np.arange(10.0), "static_index_mapping": np.arange(10)}


@pytest.mark.parametrize(
    "changes",
    [
        {"dynamic_v_list_dim1": None},
        {"map_names": ["q", "x"], "map_units": ["Å⁻¹", "pixel"]},
        {"map_units": ["Å⁻¹", "rad"]},
    ],
)
def test_phi_is_not_known_where_the_file_does_not_say_degrees(tmp_path, changes):
    write_qmap(tmp_path / "qmap.hdf", **changes)
    partition = read_partition(tmp_path / "qmap.hdf")
    assert np.isnan(partition.dynamic_phi_list).all()
    np.testing.assert_array_equal(partition.dynamic_q_list, [0.01, 0.01, 0.02, 0.02, 0.02])


def _digest_without_phi(partition) -> str:
    names = ("mask", "dynamic_roi_map", "static_roi_map", "dynamic_q_list", "static_q_list")
    digest = hashlib.sha256()
    for name, dtype in zip(names, ("?", "<i4", "<i4", "<f8", "<f8"), strict=True):
        array = getattr(partition, name)
        digest.update(str(array.shape).encode() + array.astype(dtype).tobytes())
    return digest.hexdigest()[:16]


def test_phi_is_in_the_digest_where_the_dynamic_bins_have_one(tmp_path):
    for name, phi in {"a": [-120.0, 0.0, 120.0], "b": [-110.0, 0.0, 110.0]}.items():
        write_qmap(tmp_path / name, dynamic_v_list_dim1=phi)
    first, second = (read_partition(tmp_path / name) for name in "ab")
    assert first.digest != second.digest
    assert _digest_without_phi(first) == _digest_without_phi(second) not in (first.digest, second.digest)


def test_rings_have_the_digest_that_they_had_before_phi(tmp_path):
    rings = make_ring_partition(some_mask(), GEOMETRY, 3, 4).partition
    assert rings.digest == _digest_without_phi(rings)
    dynamic = np.repeat([[1, 1, 1, 2, 2, 2]], 4, axis=0)
    changes = {"dynamic_num_pts": [2, 1], "dynamic_v_list_dim1": [90.0], "dynamic_index_mapping": [0, 1]}
    static = {"static_num_pts": [2, 2], "static_v_list_dim0": [0.01, 0.02], "static_v_list_dim1": [-90.0, 90.0]}
    static |= {"static_index_mapping": np.arange(4), "static_roi_map": 2 * dynamic - np.array([[1], [1], [0], [0]])}
    write_qmap(tmp_path / "qmap.hdf", dynamic_roi_map=dynamic, **changes, **static)
    partition = read_partition(tmp_path / "qmap.hdf")
    np.testing.assert_array_equal(partition.static_phi_list, [-90.0, 90.0, -90.0, 90.0])
    assert np.isnan(partition.dynamic_phi_list).all()
    assert partition.digest == _digest_without_phi(partition)


def some_phi_qmap(**options):
    """2 q x 3 phi bins of an odd detector, some of them empty, within a range of q."""
    mask = some_mask()
    q, phi = GEOMETRY.q_map(*mask.shape), GEOMETRY.phi_map(*mask.shape)
    high = float(np.quantile(q[mask], 0.8))
    return make_qmap(mask, q, phi, even_axis(0.0, high, 4, 2), even_axis(-180, 180, 5, 3), geometry=GEOMETRY, **options)


def test_phi_partition_written_and_read(tmp_path):
    qmap = some_phi_qmap()
    assert qmap.dynamic.index_mapping.size < 20  # some bins are empty
    write_partition(tmp_path / "qmap.hdf", qmap)
    found = read_qmap(tmp_path / "qmap.hdf")
    assert found.partition.digest == qmap.partition.digest
    assert found.geometry == GEOMETRY
    np.testing.assert_array_equal(found.blemish, some_mask())
    for kind in ("dynamic", "static"):
        for name in ("q", "phi", "index_mapping", "q_edges", "phi_edges"):
            expected = getattr(getattr(qmap, kind), name)
            np.testing.assert_array_equal(getattr(getattr(found, kind), name), expected)
    low = found.partition.dynamic_phi_list[found.partition.dynamic_roi_map[found.partition.mask] - 1] - 36.0
    phi = GEOMETRY.phi_map(*some_mask().shape)[found.partition.mask]
    assert ((phi >= low - 1e-9) & (phi <= low + 72.0 + 1e-9)).all()


def test_pixels_out_of_range_are_not_used_but_good(tmp_path):
    qmap = some_phi_qmap()
    assert (qmap.blemish & ~qmap.partition.mask).any()
    np.testing.assert_array_equal(qmap.partition.mask, qmap.partition.dynamic_roi_map > 0)


def test_log_rings_leave_out_the_direct_beam():
    geometry = Geometry(beam_center_x=20.0, beam_center_y=12.0, pixel_size=75e-6, distance=5.0, energy=10.0)
    rings = make_ring_partition(np.ones((24, 40), bool), geometry, 3, 4, "log")
    assert np.argwhere(~rings.partition.mask).tolist() == [[12, 20]]


def test_partition_in_a_result_is_read_but_not_taken_for_a_partition_file(tmp_path):
    write_qmap(tmp_path / "qmap.hdf")
    with h5py.File(tmp_path / "qmap.hdf") as file, h5py.File(tmp_path / "results.hdf", "w") as result:
        file.copy("qmap", result, "xpcs/qmap")
    assert not is_partition(SourceFile(tmp_path / "results.hdf"))
    assert read_partition(tmp_path / "results.hdf").digest == read_partition(tmp_path / "qmap.hdf").digest


def test_digest_is_of_the_content_not_of_the_file(tmp_path):
    write_qmap(tmp_path / "a.hdf")
    write_qmap(tmp_path / "b.hdf", blemish=np.ones((4, 6)), dynamic_roi_map=np.repeat([[1, 2, 3, 4, 5, 0]], 4, axis=0))
    write_qmap(tmp_path / "c.hdf", dynamic_v_list_dim0=[0.01, 0.03])
    first, second, third = (read_partition(tmp_path / f"{name}.hdf").digest for name in "abc")
    assert first == second != third
    assert len(first) == 16


def test_labels_are_zero_where_the_mask_is_false(tmp_path):
    mask = np.ones((4, 6), np.uint8)
    mask[0, :] = 0
    write_qmap(tmp_path / "qmap.hdf", mask=mask)
    partition = read_partition(tmp_path / "qmap.hdf")
    assert not partition.dynamic_roi_map[0].any()
    assert not partition.static_roi_map[0].any()
    assert partition.dynamic_roi_map[1:, :5].all()


def test_without_a_static_map_the_dynamic_one_is_taken(tmp_path):
    write_qmap(tmp_path / "qmap.hdf", static_roi_map=None)
    partition = read_partition(tmp_path / "qmap.hdf")
    np.testing.assert_array_equal(partition.static_roi_map, partition.dynamic_roi_map)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": np.ones((6, 4), np.uint8)}, "maps of one shape"),
        ({"static_roi_map": np.ones((4, 6), np.uint8)}, "static label 1 across a border"),
        ({"static_roi_map": np.zeros((4, 6), np.uint8)}, "expected valid pixels in the bins, found none in 0 bins"),
        ({"static_roi_map": np.arange(2, 26).reshape(4, 6)}, "at most one bin a pixel, found 25 bins and 24 pixels"),
        ({"dynamic_index_mapping": [0, 2, 3, 4, 6]}, "indices below 2 x 3"),
        ({"dynamic_v_list_dim0": [0.01]}, "found indices up to 5 and 1 centres"),
        ({"dynamic_roi_map": np.ones((4, 6))}, "map of labels"),
        ({"dynamic_roi_map": None}, "dynamic_roi_map"),
        ({"dynamic_num_pts": None}, "dynamic_num_pts"),
        ({"dynamic_num_pts": 6}, "cannot read it"),
        ({"mask": np.zeros((4, 6), np.uint8)}, "expected valid pixels in the bins, found none in 5 bins"),
        ({"dynamic_index_mapping": [0, 2, 3, 4, 4]}, "distinct indices"),
        ({"dynamic_index_mapping": [-1, 2, 3, 4, 5]}, "indices below 2 x 3"),
        ({"dynamic_v_list_dim1": [0.0, 90.0]}, "expected 3 values of phi"),
        ({"mask": np.ones((6, 4), np.uint8), "blemish": np.ones((6, 4), np.uint8)}, "maps of one shape"),
        ({"blemish": np.ones((6, 4), np.uint8)}, "maps of one shape"),
        ({"map_names": np.zeros(0, "S1")}, "cannot read it"),
        ({"map_names": ["x", "y"]}, "found the name 'x'"),
        ({"map_units": ["furlong", "deg"]}, "expected a unit such as 1/angstrom, 1/nm, found 'furlong'"),
    ],
)
def test_wrong_partition_is_refused_in_one_line(tmp_path, changes, message):
    path = tmp_path / "qmap.hdf"
    write_qmap(path, **changes)
    with pytest.raises(ScanError, match=message) as error:
        read_partition(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


ROW = np.repeat([[1, 2, 3, 4, 5, 0]], 4, axis=0)


@pytest.mark.parametrize(
    ("changes", "sizes", "q_list", "notes"),
    [
        ({"mask": ROW != 3}, [4, 4, 0, 4, 4], [1, 1, 2, 2, 2], ["q-bin 2: no valid pixel: no correlation"]),
        (
            {"dynamic_roi_map": np.where(ROW == 5, 6, ROW)},
            [4, 4, 4, 4, 0],
            [1, 1, 2, 2, 2],
            ["q-bin 4: no valid pixel: no correlation", "q-bin 5: pixels, but no q: left out"],
        ),
        (
            {"dynamic_roi_map": np.where(ROW == 5, 2**32 - 1, ROW).astype(np.uint32)},
            [4, 4, 4, 4, 0],
            [1, 1, 2, 2, 2],
            ["q-bin 4: no valid pixel: no correlation", "q-bin 2147483646: pixels, but no q: left out"],
        ),
        (
            {"dynamic_index_mapping": [0, 2, 3, 4]},
            [4, 4, 4, 4],
            [1, 1, 2, 2],
            ["q-bin 4: pixels, but no q: left out"],
        ),
        (
            {"dynamic_v_list_dim0": [0.01, np.nan]},
            [4, 4, 4, 4, 4],
            [1, 1, np.nan, np.nan, np.nan],
            ["q-bin 2, 3, 4: a q that is not finite or below 0: NaN instead"],
        ),
        (
            {"dynamic_v_list_dim0": [-0.01, 0.02]},
            [4, 4, 4, 4, 4],
            [np.nan, np.nan, 2, 2, 2],
            ["q-bin 0, 1: a q that is not finite or below 0: NaN instead"],
        ),
    ],
)
def test_what_is_wrong_with_one_bin_costs_this_bin_and_is_told(tmp_path, changes, sizes, q_list, notes):
    write_qmap(tmp_path / "qmap.hdf", **changes)
    partition = read_partition(tmp_path / "qmap.hdf")
    found = np.bincount(partition.dynamic_roi_map.ravel(), minlength=len(sizes) + 1)[1:]
    assert found.tolist() == sizes
    np.testing.assert_allclose(partition.dynamic_q_list, 0.01 * np.array(q_list))
    assert list(partition.notes) == notes
    np.testing.assert_array_equal(partition.static_roi_map > 0, partition.dynamic_roi_map > 0)


def test_static_bins_may_be_empty_or_without_a_q(tmp_path):
    write_qmap(
        tmp_path / "qmap.hdf",
        mask=ROW != 2,
        static_num_pts=[8, 1],
        static_v_list_dim0=0.001 * np.arange(1, 9),
        static_v_list_dim1=[0.0],
        static_index_mapping=np.arange(8),
    )
    partition = read_partition(tmp_path / "qmap.hdf")
    assert np.unique(partition.static_roi_map).tolist() == [0, 1, 2, 5, 6, 7, 8, 9, 10]
    np.testing.assert_allclose(partition.static_q_list, [*(0.001 * np.arange(1, 9)), np.nan, np.nan])
    assert partition.notes == ("q-bin 1: no valid pixel: no correlation",)


@settings(deadline=None, max_examples=25)
@given(share=st.floats(0.0, 0.999))
def test_truncated_file_is_refused(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("qmap") / "qmap.hdf"
    write_qmap(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert not is_partition(SourceFile(path))
    with pytest.raises(ScanError, match=r"qmap\.hdf"):
        read_partition(path)


@settings(max_examples=50)
@given(place=st.floats(0.0, 0.999), value=st.integers(0, 255), seed=st.integers(0, 9))
def test_damaged_file_is_refused_or_read(tmp_path_factory, place, value, seed):
    path = tmp_path_factory.mktemp("qmap") / "qmap.hdf"
    write_qmap(path)
    content = bytearray(path.read_bytes())
    for number in np.random.default_rng(seed).integers(0, len(content), 5):
        content[number] = value
    content[int(place * len(content))] = value
    path.write_bytes(content)
    is_partition(SourceFile(path))
    with contextlib.suppress(ScanError):
        read_qmap(path)


def test_a_damaged_heap_of_texts_is_refused(tmp_path):
    """The free rest of the heap ends too early, where HDF5 itself never comes to an end."""
    path = tmp_path / "qmap.hdf"
    write_qmap(path)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    rest = content.index((4096 - 16 - 4 * 24).to_bytes(8, "little"), heap)
    content[rest] -= 144
    path.write_bytes(content)
    with pytest.raises(ScanError, match="its texts at byte"):
        read_partition(path)


def test_a_text_of_gigabytes_is_refused(tmp_path):
    path = tmp_path / "qmap.hdf"
    write_qmap(path)
    with h5py.File(path) as file:
        offset = file["qmap/map_units"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset + 3] = 255
    path.write_bytes(content)
    with pytest.raises(ScanError, match="texts of at most 65536 bytes"):
        read_partition(path)


def test_a_map_larger_than_any_detector_is_not_read(tmp_path):
    write_qmap(tmp_path / "qmap.hdf", mask=None)
    with h5py.File(tmp_path / "qmap.hdf", "a") as file:
        file.create_dataset("qmap/mask", (2**20, 2**20), "u1", chunks=(2**10, 2**10))
    with pytest.raises(ScanError, match="at most 67108864 numbers"):
        read_partition(tmp_path / "qmap.hdf")


def test_maps_in_other_folders_are_not_read(tmp_path):
    (tmp_path / "folder").mkdir()
    write_qmap(tmp_path / "outside.hdf")
    write_qmap(tmp_path / "folder" / "qmap.hdf", mask=None)
    with h5py.File(tmp_path / "folder" / "qmap.hdf", "a") as file:
        file["qmap/mask"] = h5py.ExternalLink("../outside.hdf", "qmap/mask")
    with pytest.raises(ScanError, match="links to files below"):
        read_partition(tmp_path / "folder" / "qmap.hdf")


def test_other_files_are_no_partitions(tmp_path):
    (tmp_path / "text.hdf").write_text("not HDF5")
    with h5py.File(tmp_path / "other.hdf", "w") as file:
        file["entry/data"] = 1
    for name in ("text.hdf", "other.hdf", "absent.hdf", "."):
        assert not is_partition(SourceFile(tmp_path / name))


def test_bins_need_a_valid_pixel():
    with pytest.raises(ScanError, match="found none"):
        make_ring_partition(np.zeros((4, 4), bool), GEOMETRY, 2, 2)
    q = GEOMETRY.q_map(4, 4)
    with pytest.raises(ScanError, match="found none"):
        make_qmap(np.zeros((4, 4), bool), q, q, axis_over(q, np.ones((4, 4), bool), 2))
