"""Q maps of the former APS layout, as its programs wrote them, and back and forth between the layouts."""

from __future__ import annotations

import contextlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.partitions.partition import Geometry, is_partition, make_qmap, read_qmap, write_partition
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.kernels.partitioning import even_axis

NAN = float("nan")
DYNAMIC = np.repeat([[1, 2, 3, 4, 5, 0]], 4, axis=0)
STATIC = np.where(DYNAMIC > 0, 2 * DYNAMIC - np.array([[1], [1], [0], [0]]), 0)
Q = [0.01, 0.01, 0.02, 0.02, 0.02]
PHI = [-120.0, 120.0, -120.0, 0.0, 120.0]


def write_legacy(path, **changes) -> None:
    """2 q x 3 phi bins as pySimpleMask wrote them until 2025, bin (q 0, phi 1) empty; `changes` replace datasets."""
    content = {
        "mask": np.ones((4, 6), np.uint8),
        "dynamicMap": DYNAMIC.astype(np.uint32),
        "staticMap": STATIC.astype(np.uint32),
        "dqval": [[0.01, NAN, 0.01, 0.02, 0.02, 0.02]],
        "dphival": [[-120.0, NAN, 120.0, -120.0, 0.0, 120.0]],
        "dqspan": [0.005, 0.015, 0.025],
        "dphispan": [-180.0, -60.0, 60.0, 180.0],
        "dnoq": [[2]],
        "dnophi": [[3]],
        "sqval": [np.repeat([0.0075, 0.0125], 5)],
        "sphival": [np.tile(np.arange(5.0), 2)],
        "sqspan": [0.005, 0.01, 0.015],
        "sphispan": np.arange(6.0) - 0.5,
        "snoq": [[2]],
        "snophi": [[5]],
        "x0": [[12.5]],
        "y0": [[7.0]],
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[f"data/{name}"] = value


def test_file_of_pysimplemask(tmp_path):
    path = tmp_path / "qmap.h5"
    write_legacy(path)
    assert is_partition(SourceFile(path))
    qmap = read_qmap(path)
    partition = qmap.partition
    np.testing.assert_array_equal(partition.dynamic_roi_map, DYNAMIC)
    np.testing.assert_array_equal(partition.static_roi_map, STATIC)
    assert partition.mask.all()
    assert partition.dynamic_q_list.tolist() == Q
    assert partition.dynamic_phi_list.tolist() == PHI
    assert partition.static_q_list.tolist() == [0.0075] * 5 + [0.0125] * 5
    assert qmap.dynamic.index_mapping.tolist() == [0, 2, 3, 4, 5]
    assert qmap.dynamic.q.tolist() == [0.01, 0.02]
    assert qmap.dynamic.phi.tolist() == [-120.0, 0.0, 120.0]
    assert qmap.dynamic.q_edges.tolist() == [0.005, 0.015, 0.025]
    assert (qmap.geometry.beam_center_x, qmap.geometry.beam_center_y) == (12.5, 7.0)
    assert np.isnan(qmap.geometry.energy)


def test_q_in_another_unit(tmp_path):
    """The edges are in the unit of the centres, which alone give it."""
    write_legacy(tmp_path / "a.h5")
    write_legacy(tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "a") as file:
        for name in ("dqval", "sqval"):
            file[f"data/{name}"].attrs["units"] = "nm^-1"
    known, found = (read_qmap(tmp_path / name) for name in ("a.h5", "b.h5"))
    np.testing.assert_allclose(found.partition.dynamic_q_list, 0.1 * np.array(Q), rtol=1e-12)
    np.testing.assert_allclose(found.dynamic.q_edges, 0.1 * known.dynamic.q_edges, rtol=1e-12)
    np.testing.assert_allclose(found.static.q, 0.1 * known.static.q, rtol=1e-12)


def test_file_of_the_matlab_programs(tmp_path):
    """phi slow, columns, doubles, -1 for unused."""
    label_of = np.array([-1, 1, 4, 2, 3, 5])  # of those in the order of q
    lists = {"dqval": [0.01, 0.02, NAN, 0.02, 0.01, 0.02], "dphival": [-120.0, -120.0, NAN, 0.0, 120.0, 120.0]}
    columns = {name: np.array(values)[:, np.newaxis] for name, values in lists.items()}
    write_legacy(tmp_path / "qmap.h5", dynamicMap=label_of[DYNAMIC].astype(float), **columns)
    qmap = read_qmap(tmp_path / "qmap.h5")
    assert qmap.dynamic.phi.tolist() == [-120.0, 0.0, 120.0]
    assert qmap.dynamic.index_mapping.tolist() == [0, 3, 4, 2, 5]
    row = qmap.partition.dynamic_roi_map[0]
    assert qmap.partition.dynamic_q_list[row[:5] - 1].tolist() == Q
    assert qmap.partition.dynamic_phi_list[row[:5] - 1].tolist() == PHI
    assert row[5] == 0


def test_lists_of_the_labelled_bins_alone(tmp_path):
    write_legacy(tmp_path / "qmap.h5", dqval=Q, dphival=PHI)
    partition = read_qmap(tmp_path / "qmap.h5").partition
    assert partition.dynamic_q_list.tolist() == Q
    assert partition.dynamic_phi_list.tolist() == PHI


def test_mean_q_of_every_bin(tmp_path):
    """Bins whose q and phi lie on no grid keep their own."""
    q, phi = [0.011, NAN, 0.0105, 0.02, 0.021, 0.0199], [-119.0, NAN, 121.0, -120.5, 0.0, 119.5]
    write_legacy(tmp_path / "qmap.h5", dqval=q, dphival=phi)
    partition = read_qmap(tmp_path / "qmap.h5").partition
    assert partition.dynamic_q_list.tolist() == [0.011, 0.0105, 0.02, 0.021, 0.0199]
    assert partition.dynamic_phi_list.tolist() == [-119.0, 121.0, -120.5, 0.0, 119.5]


def test_rings_lie_at_no_phi(tmp_path):
    rings = np.repeat([[1, 1, 2, 2, 3, 0]], 4, axis=0)
    changes = {"dqval": [0.01, 0.02, 0.03], "dphival": [3.0, 4.0, 5.0], "dnoq": 3, "dnophi": 1, "dqspan": None}
    write_legacy(
        tmp_path / "qmap.h5", dynamicMap=rings, staticMap=rings, sqval=[0.01, 0.02, 0.03], sphival=None, **changes
    )
    qmap = read_qmap(tmp_path / "qmap.h5")
    assert np.isnan(qmap.partition.dynamic_phi_list).all()
    assert qmap.dynamic.phi.size == 1


@pytest.mark.parametrize("spacing", ["linear", "log"])
def test_a_ring_without_a_pixel_takes_its_q_from_the_edges(tmp_path, spacing):
    rings = np.repeat([[1, 1, 2, 2, 2, 0]], 4, axis=0)
    edges = [1.0, 2.0, 3.0, 4.0] if spacing == "linear" else [1.0, 4.0, 16.0, 64.0]
    q = [1.5, NAN, 3.5] if spacing == "linear" else [2.0, NAN, 32.0]
    lists = {"dqval": q, "dphival": [0, NAN, 0], "dqspan": edges, "dphispan": None, "dnoq": 3, "dnophi": 1}
    write_legacy(tmp_path / "qmap.h5", dynamicMap=rings, staticMap=rings, sqval=[1.5, 3.5], sphival=[0, 0], **lists)
    qmap = read_qmap(tmp_path / "qmap.h5")
    assert qmap.dynamic.q.tolist() == ([1.5, 2.5, 3.5] if spacing == "linear" else [2.0, 8.0, 32.0])
    assert qmap.dynamic.index_mapping.tolist() == [0, 2]


def test_partition_in_a_result_is_read_but_not_taken_for_a_partition_file(tmp_path):
    write_legacy(tmp_path / "qmap.h5")
    names = {"dynamicMap": "dqmap", "staticMap": "sqmap"}
    names |= {f"{name}val": f"{name}list" for name in ("dq", "sq", "dphi", "sphi")}
    with h5py.File(tmp_path / "qmap.h5") as file, h5py.File(tmp_path / "result.hdf", "w") as result:
        for name, dataset in file["data"].items():
            result[f"xpcs/{names.get(name, name)}"] = dataset[()]
    assert not is_partition(SourceFile(tmp_path / "result.hdf"))
    assert read_qmap(tmp_path / "result.hdf").partition.digest == read_qmap(tmp_path / "qmap.h5").partition.digest


def shared(qmap) -> dict[str, np.ndarray]:
    """What both layouts hold."""
    partition, geometry = qmap.partition, qmap.geometry
    found = {name: getattr(partition, name) for name in ("mask", "dynamic_roi_map", "static_roi_map")}
    for kind in ("dynamic", "static"):
        bins = getattr(qmap, kind)
        found |= {f"{kind} {axis}": getattr(partition, f"{kind}_{axis}_list") for axis in ("q", "phi")}
        found |= {
            f"{kind} {name}": getattr(bins, name) for name in ("q", "phi", "index_mapping", "q_edges", "phi_edges")
        }
    return found | {"beam": np.array([geometry.beam_center_x, geometry.beam_center_y])}


def assert_same(first, second) -> None:
    expected = shared(second)
    for name, value in shared(first).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-14, atol=1e-12 * ("phi" in name), err_msg=name)
    assert first.partition.digest == second.partition.digest


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    num_q=st.integers(1, 5),
    num_phi=st.integers(1, 5),
    per_q=st.integers(1, 3),
    per_phi=st.integers(1, 3),
    spacing=st.sampled_from(["linear", "log"]),
)
def test_nothing_is_lost_between_the_layouts(tmp_path_factory, seed, num_q, num_phi, per_q, per_phi, spacing):
    folder = tmp_path_factory.mktemp("qmap")
    chance = np.random.default_rng(seed)
    geometry = Geometry(*chance.uniform(-5, 20, 2), pixel_size=75e-6, distance=5.0, energy=10.0)
    q, phi = geometry.q_map(12, 17), geometry.phi_map(12, 17)
    mask = chance.random((12, 17)) < 0.6
    axis = even_axis(0.8 * q.min() + 1e-6, 1.3 * q.max(), num_q, per_q, spacing)  # the outer bins may be empty
    made = make_qmap(mask, q, phi, axis, even_axis(-180, 180, num_phi, per_phi), geometry=geometry)
    write_partition(folder / "legacy.h5", made, legacy=True)
    write_partition(folder / "current.h5", made)
    legacy, current = read_qmap(folder / "legacy.h5"), read_qmap(folder / "current.h5")
    assert_same(legacy, made)
    assert_same(current, made)
    write_partition(folder / "there.h5", legacy)
    write_partition(folder / "back.h5", read_qmap(folder / "there.h5"), legacy=True)
    assert_same(read_qmap(folder / "there.h5"), made)
    assert_same(read_qmap(folder / "back.h5"), made)
    assert all(is_partition(SourceFile(path)) for path in folder.iterdir())


@pytest.mark.parametrize("style", ["phi slow", "no grid", "labels alone"])
def test_foreign_files_survive_both_layouts(tmp_path, style):
    lists = {
        "phi slow": ([0.01, 0.02, NAN, 0.02, 0.01, 0.02], [-120.0, -120.0, NAN, 0.0, 120.0, 120.0]),
        "no grid": ([0.011, NAN, 0.0105, 0.02, 0.021, 0.0199], [-119.0, NAN, 121.0, -120.5, 0.0, 119.5]),
        "labels alone": (Q, PHI),
    }
    write_legacy(tmp_path / "a.h5", dqval=lists[style][0], dphival=lists[style][1])
    first = read_qmap(tmp_path / "a.h5")
    write_partition(tmp_path / "b.h5", first)
    write_partition(tmp_path / "c.h5", read_qmap(tmp_path / "b.h5"), legacy=True)
    for name in "bc":
        found = read_qmap(tmp_path / f"{name}.h5")
        assert found.partition.digest == first.partition.digest
        np.testing.assert_array_equal(found.partition.dynamic_phi_list, first.partition.dynamic_phi_list)


def test_written_file_has_the_layout_of_the_programs(tmp_path):
    write_legacy(tmp_path / "a.h5")
    write_partition(tmp_path / "b.h5", read_qmap(tmp_path / "a.h5"), legacy=True)
    with h5py.File(tmp_path / "a.h5") as first, h5py.File(tmp_path / "b.h5") as second:
        assert set(second["data"]) == set(first["data"]) | {"dynamicQList", "staticQList"}
        for name, dataset in first["data"].items():
            np.testing.assert_array_equal(np.ravel(second[f"data/{name}"]), np.ravel(dataset), err_msg=name)
        assert second["data/dynamicMap"].dtype == np.uint32
        assert second["data/mask"].dtype == np.uint8
        assert second["data/dqval"].shape == (1, 6)
        assert second["data/dynamicQList"][0].tolist() == [0, 1, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": None}, "expected a dataset, found none"),
        ({"mask": np.ones((6, 4))}, "maps of one shape"),
        ({"staticMap": None}, "expected a dataset, found none"),
        ({"staticMap": np.ones((4, 6))}, "found 10 finite q of 10"),
        ({"staticMap": np.where(STATIC > 0, 11 - STATIC, 0)[:, ::-1]}, "across a border"),
        ({"dynamicMap": DYNAMIC + 0.5}, "2-D map of labels"),
        ({"dynamicMap": DYNAMIC.ravel()}, "2-D map of labels"),
        ({"dynamicMap": 2 * DYNAMIC}, "q and phi of 10 labels"),
        ({"dynamicMap": DYNAMIC.astype(float) * 1e12}, "2-D map of labels"),
        ({"dqval": None}, "found 0 finite q of 0"),
        ({"dqval": [[0.01, 0.01, 0.01, 0.02, 0.02, 0.02]]}, "found 6 finite q of 6"),
        ({"dphival": [[0.0, 1.0]]}, "2 phi"),
    ],
)
def test_wrong_partition_is_refused_in_one_line(tmp_path, changes, message):
    path = tmp_path / "qmap.h5"
    write_legacy(path, **changes)
    with pytest.raises(ScanError, match=message) as error:
        read_qmap(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_label_that_is_skipped_costs_its_bin(tmp_path):
    skipped = {"dynamicMap": np.where(DYNAMIC == 5, 6, DYNAMIC), "dqval": np.arange(6.0), "dphival": None}
    write_legacy(tmp_path / "qmap.h5", **skipped)
    partition = read_qmap(tmp_path / "qmap.h5").partition
    assert partition.notes == ("q-bin 4: no valid pixel: no correlation",)
    np.testing.assert_array_equal(partition.dynamic_q_list, np.arange(6.0))


@settings(max_examples=50)
@given(place=st.floats(0.0, 0.999), value=st.integers(0, 255), seed=st.integers(0, 9), is_cut=st.booleans())
def test_damaged_file_is_refused_or_read(tmp_path_factory, place, value, seed, is_cut):
    path = tmp_path_factory.mktemp("qmap") / "qmap.h5"
    write_legacy(path)
    content = bytearray(path.read_bytes())
    for number in np.random.default_rng(seed).integers(0, len(content), 5):
        content[number] = value
    path.write_bytes(content[: int(place * len(content))] if is_cut else content)
    is_partition(SourceFile(path))
    with contextlib.suppress(ScanError):
        read_qmap(path)
