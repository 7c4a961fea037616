"""The verb `qmap`: from a scan, a geometry or a .poni file to a partition file, its table and its picture."""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from ainerd_hpc.cli import main
from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.partitions.partition import read_qmap
from ainerd_hpc.formats.partitions.poni import read_poni
from tests.support.places import SHARED

HC = 12.39841984
PLACE = ["--beam-center", "14", "9.5", "--distance", "5", "--energy", "10", "--pixel-size", "75e-6"]
GEOMETRY = ["--shape", "24", "40", *PLACE]


def make(path: Path, *options: object) -> int:
    return main(["qmap", "--output", str(path), *map(str, options)])


def test_rings_from_a_geometry(tmp_path, capsys):
    path = tmp_path / "a_qmap.hdf"
    assert make(path, *GEOMETRY, "--q-bins", 3, "--static-per-q", 2) == 0
    qmap = read_qmap(path)
    radius = np.hypot(np.arange(24)[:, np.newaxis] - 9.5, np.arange(40) - 14.0)
    q = 4 * math.pi * 10 / HC * np.sin(0.5 * np.arctan(radius * 75e-6 / 5))
    edges = np.linspace(q.min(), q.max(), 4)
    np.testing.assert_allclose(qmap.partition.dynamic_q_list, (edges[1:] + edges[:-1]) / 2, atol=1e-12)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for q_bin in range(3):
        low, high = edges[q_bin] - 1e-11, edges[q_bin + 1] + 1e-11
        inside = q[qmap.partition.dynamic_roi_map == q_bin + 1]
        assert ((inside >= low) & (inside <= high)).all()
        q_text = f"{qmap.partition.dynamic_q_list[q_bin]:.6g}"
        assert [str(q_bin), q_text, str(inside.size), "2"] in rows
    assert qmap.geometry.energy == 10.0


@pytest.mark.parametrize("layout", [[], ["--legacy"]])
def test_bins_of_phi_with_symmetry_in_both_layouts(tmp_path, layout, capsys):
    path = tmp_path / "a_qmap.hdf"
    options = ["--q-bins", 2, "--phi-bins", 3, "--symmetry", 2, "--static-per-q", 2, "--static-per-phi", 2]
    assert make(path, *GEOMETRY, *options, *layout) == 0
    partition = read_qmap(path).partition
    assert sorted(set(partition.dynamic_phi_list)) == pytest.approx([30.0, 90.0, 150.0])
    up = -np.degrees(np.arctan2(np.arange(24)[:, np.newaxis] - 9.5, np.arange(40) - 14.0)) % 180.0
    phi = partition.dynamic_phi_list[partition.dynamic_roi_map - 1]
    assert (np.abs(up - phi)[partition.mask] <= 30.0 + 1e-9).all()
    with h5py.File(path) as file:
        assert ("data/dynamicMap" in file) == bool(layout)
    made = capsys.readouterr().out
    assert main(["qmap", "--show", str(path)]) == 0
    assert capsys.readouterr().out == made
    assert "phi degrees" in made


def test_a_range_of_q_and_explicit_edges(tmp_path):
    assert make(tmp_path / "a", *GEOMETRY, "--q-range", 5e-4, 2e-3, "--q-bins", 2, "--spacing", "log") == 0
    assert make(tmp_path / "b", *GEOMETRY, "--q-edges", 5e-4, 1e-3, 2e-3, "--spacing", "log") == 0
    first, second = read_qmap(tmp_path / "a"), read_qmap(tmp_path / "b")
    np.testing.assert_array_equal(first.partition.static_roi_map, second.partition.static_roi_map)
    np.testing.assert_allclose(first.partition.dynamic_q_list, np.sqrt([5e-7, 2e-6]), rtol=1e-12)
    assert first.blemish.all()
    assert not first.partition.mask.all()
    assert make(tmp_path / "c", *GEOMETRY, "--phi-edges", -30, 30, 90) == 0
    assert sorted(set(read_qmap(tmp_path / "c").partition.dynamic_phi_list)) == [0.0, 60.0]


def test_what_a_scan_says(simulated_source, tmp_path, capsys):
    """The geometry of its metadata file; with its own mask these are the rings that it was simulated with."""
    scan, own = simulated_source / "sim_00000.h5", simulated_source / "simulated_qmap.hdf"
    scan = scan if scan.exists() else next(iter(sorted(simulated_source.glob("*.h5"))))
    assert make(tmp_path / "q.hdf", "--scan", scan, "--mask", own, "--q-bins", 2) == 0
    made, expected = read_qmap(tmp_path / "q.hdf"), read_qmap(own)
    assert made.partition.digest == expected.partition.digest
    assert made.geometry == expected.geometry
    with h5py.File(scan) as file:
        dead = np.count_nonzero(file["entry/data/data"][0] == 65535)
    assert f"{scan}: masks {dead} of {48 * 64} pixels" in capsys.readouterr().out
    assert make(tmp_path / "q.hdf", "--scan", scan, "--mask", own, "--q-bins", 2, "--energy", 20) == 0
    doubled = read_qmap(tmp_path / "q.hdf").partition.dynamic_q_list
    np.testing.assert_allclose(doubled, 2 * expected.partition.dynamic_q_list, rtol=1e-9)


def test_dead_pixels_of_a_scan_are_masked(tmp_path):
    frames = np.ones((3, 24, 40), np.uint16)
    frames[0, 3, 4] = frames[0, 20, 30] = 65535
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["entry/data/data"] = frames
    assert make(tmp_path / "q.hdf", "--scan", tmp_path / "scan.h5", *PLACE) == 0
    assert np.argwhere(~read_qmap(tmp_path / "q.hdf").partition.mask).tolist() == [[3, 4], [20, 30]]
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        file["entry/data/data"][0] = 65535  # a lost frame says nothing
    assert make(tmp_path / "q.hdf", "--scan", tmp_path / "scan.h5", *PLACE) == 0
    assert read_qmap(tmp_path / "q.hdf").partition.mask.all()


def test_all_masks_count(tmp_path, capsys):
    masks = np.random.default_rng(1).random((3, 24, 40)) < 0.2
    for number, mask in enumerate(masks[:2]):
        np.save(tmp_path / f"{number}.npy", mask)
    with h5py.File(tmp_path / "2.h5", "w") as file:
        file["good"], file["other"] = ~masks[2], masks[2]
    given = ["--mask", tmp_path / "0.npy", tmp_path / "1.npy", "--mask-invert", f"{tmp_path / '2.h5'}::/good"]
    assert make(tmp_path / "q.hdf", *GEOMETRY, *given) == 0
    np.testing.assert_array_equal(read_qmap(tmp_path / "q.hdf").partition.mask, ~masks.any(axis=0))
    told = [f"masks {np.count_nonzero(mask)} of 960 pixels" for mask in masks]
    assert all(line in capsys.readouterr().out for line in told[:1])


def rotated(height, width, dist, poni, rot, pixel):
    """q k0 and phi by the rotations about the axes 1 (up), 2 (horizontal) and 3 (beam), in pyFAI's definition."""
    turn = np.eye(3)
    sines = np.sin(rot), np.cos(rot)
    for axis, (s, c) in enumerate(zip(*sines, strict=True)):
        one = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        sign = -1.0 if axis < 2 else 1.0
        one[first, first] = one[second, second] = c
        one[first, second], one[second, first] = -sign * s, sign * s
        turn = one @ turn
    d1 = ((np.arange(height) + 0.5) * pixel - poni[0])[:, np.newaxis] + np.zeros(width)
    d2 = ((np.arange(width) + 0.5) * pixel - poni[1]) + np.zeros((height, 1))
    t1, t2, t3 = np.einsum("ij,jyx->iyx", turn, np.stack([d1, d2, np.full(d1.shape, dist)]))
    return 2 * np.sin(0.5 * np.arctan2(np.hypot(t1, t2), t3)), -np.degrees(np.arctan2(t1, t2))


def write_poni(path: Path, rot=(0.2, -0.1, 0.3), shape=(24, 40), wavelength: str = "1.24e-10", **changes) -> Path:
    config = {"pixel1": 75e-6, "pixel2": 75e-6, "max_shape": shape, "orientation": 3}
    lines = {"poni_version": 2.1, "Detector": "Detector", "Detector_config": json.dumps(config), "Distance": 0.5}
    lines |= {"Poni1": 0.001, "Poni2": -0.002, "Rot1": rot[0], "Rot2": rot[1], "Rot3": rot[2], "Wavelength": wavelength}
    path.write_text("".join(f"{key}: {value}\n" for key, value in (lines | changes).items()))
    return path


def test_a_tilted_detector_of_a_poni_file(tmp_path):
    pytest.importorskip("pyFAI")
    found = read_poni(write_poni(tmp_path / "a.poni"))
    share, phi = rotated(24, 40, 0.5, (0.001, -0.002), (0.2, -0.1, 0.3), 75e-6)
    np.testing.assert_allclose(found.q, 2 * math.pi / 1.24 * share, rtol=1e-9)
    np.testing.assert_allclose(found.phi, phi, rtol=1e-9, atol=1e-9)
    assert make(tmp_path / "q.hdf", "--poni", tmp_path / "a.poni", "--q-bins", 4, "--phi-bins", 2) == 0
    q_list = read_qmap(tmp_path / "q.hdf").dynamic.q
    edges = np.linspace(found.q.min(), found.q.max(), 5)
    np.testing.assert_allclose(q_list, (edges[1:] + edges[:-1]) / 2, rtol=1e-9)


def test_an_untilted_poni_file_is_the_plain_geometry(tmp_path):
    pytest.importorskip("pyFAI")
    changes = {"Poni1": 10.0 * 75e-6, "Poni2": 14.5 * 75e-6, "Distance": 5.0}
    write_poni(tmp_path / "a.poni", (0, 0, 0), wavelength=f"{HC / 10 * 1e-10!r}", **changes)
    assert make(tmp_path / "a.hdf", "--poni", tmp_path / "a.poni", "--phi-bins", 3) == 0
    assert make(tmp_path / "b.hdf", *GEOMETRY, "--phi-bins", 3) == 0
    first, second = read_qmap(tmp_path / "a.hdf"), read_qmap(tmp_path / "b.hdf")
    np.testing.assert_array_equal(first.partition.dynamic_roi_map, second.partition.dynamic_roi_map)
    np.testing.assert_allclose(first.partition.dynamic_q_list, second.partition.dynamic_q_list, rtol=1e-9)
    for name in ("beam_center_x", "beam_center_y", "pixel_size", "distance", "energy"):
        assert getattr(first.geometry, name) == pytest.approx(getattr(second.geometry, name), rel=1e-9)


def test_gaps_of_a_detector_that_pyfai_knows(tmp_path):
    pytest.importorskip("pyFAI")
    write_poni(tmp_path / "a.poni", Detector="Pilatus100k", Detector_config='{"orientation": 3}')
    found = read_poni(tmp_path / "a.poni")
    assert found.q.shape == found.mask.shape == (195, 487)
    write_poni(tmp_path / "b.poni", Detector="Pilatus300k", Detector_config='{"orientation": 3}')
    assert not read_poni(tmp_path / "b.poni").mask[200].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Wavelength": "None"}, "a.poni"),
        ({"Distance": "far"}, "could not convert"),
        ({"Detector": "Unheard"}, "unheard is unknown"),
        ({"shape": (3, 4)}, "expected a detector of"),
    ],
)
def test_a_wrong_poni_file_is_refused_in_one_line(tmp_path, changes, message):
    pytest.importorskip("pyFAI")
    write_poni(tmp_path / "a.poni", **changes)
    with pytest.raises(ScanError, match=message) as error:
        read_poni(tmp_path / "a.poni", (24, 40))
    assert "\n" not in str(error.value)


def test_the_picture_shows_the_bins_where_they_are(tmp_path):
    mask = np.zeros((24, 40), bool)
    mask[:4] = True
    np.save(tmp_path / "mask.npy", mask)
    options = ["--q-bins", 3, "--static-per-q", 1, "--mask", tmp_path / "mask.npy", "--q-range", 0, 1.5e-3, "--plot"]
    assert make(tmp_path / "a_qmap.hdf", *GEOMETRY, *options) == 0
    picture = np.asarray(Image.open(tmp_path / "a_qmap.png")).astype(int)
    labels = read_qmap(tmp_path / "a_qmap.hdf").partition.dynamic_roi_map
    scale = 930 / 40
    colours = {}
    for y, x in np.ndindex(24, 40):
        colour = tuple(picture[int(100 + (y + 0.5) * scale), int(90 + (x + 0.2) * scale)])
        kind = "masked" if mask[y, x] else int(labels[y, x])
        if abs(y - 9.5) > 2 or abs(x - 14) > 2:  # the cross of the direct beam
            colours.setdefault(kind, set()).add(colour)
    assert set(colours) == {"masked", 0, 1, 2, 3}
    assert all(len(found) == 1 for found in colours.values())
    assert len(set.union(*colours.values())) == 5


def test_a_picture_of_many_bins_and_of_a_small_detector(tmp_path):
    options = ["--q-bins", 200, "--phi-bins", 7, "--static-per-phi", 2, "--plot", tmp_path / "a.png"]
    assert make(tmp_path / "a.hdf", "--shape", 500, 9, *PLACE, *options) == 0
    assert make(tmp_path / "b.hdf", "--shape", 1, 2, *PLACE, "--plot", tmp_path / "b.png") == 0
    for name in ("a.png", "b.png"):
        assert Image.open(tmp_path / name).width <= 1600


def test_the_table_of_many_bins_ends(tmp_path, capsys):
    assert make(tmp_path / "a.hdf", *GEOMETRY, "--q-bins", 100) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 70
    assert any(line.startswith("... and ") for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "24", "40"], "give --beam-center, --distance, --energy, --pixel-size"),
        (PLACE, "how many pixels are there?"),
        ([*GEOMETRY, "--q-range", "2", "1"], "expected increasing q"),
        ([*GEOMETRY, "--q-edges", "1"], "expected increasing q"),
        ([*GEOMETRY, "--q-range", "0", "1", "--spacing", "log"], "q above 0"),
        ([*GEOMETRY, "--q-range", "0", "1", "--q-edges", "0", "1"], "--q-range or --q-edges"),
        ([*GEOMETRY, "--phi-edges", "0", "200", "--symmetry", "2"], "within 180 degrees"),
        ([*GEOMETRY, "--distance", "-1"], "above 0"),
        ([*GEOMETRY, "--poni", "a.poni"], "leave out"),
        ([*PLACE, "--scan", "none.h5"], "none.h5"),
    ],
)
def test_wrong_usage_is_told_in_one_line(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert make(tmp_path / "q.hdf", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--output", "a", "--show", "b"],
        ["--output", "a", *GEOMETRY, "--q-bins", "0"],
        ["--output", "a", *GEOMETRY, "--q-bins", "2", "--q-edges", "1", "2"],
        ["--output", "a", *GEOMETRY, "--scan", "b"],
        ["--output", "a", *GEOMETRY, "--spacing", "square"],
    ],
)
def test_wrong_options_are_refused(options, capsys):
    with pytest.raises(SystemExit) as error:
        main(["qmap", *options])
    assert error.value.code == 2


def test_files_that_do_not_serve_are_told_in_one_line(tmp_path, capsys):
    np.save(tmp_path / "mask.npy", np.ones((4, 5), bool))
    np.save(tmp_path / "all.npy", np.ones((24, 40), bool))
    for options, message in (
        (["--mask", tmp_path / "mask.npy"], "expected a mask of (24, 40), found (4, 5)"),
        (["--mask", tmp_path / "all.npy"], "--mask-invert"),
        (["--q-range", 1, 2], "expected valid pixels with q of 1 to 2"),
    ):
        assert make(tmp_path / "q.hdf", *GEOMETRY, *options) == 1
        assert message in capsys.readouterr().err
    assert main(["qmap", "--show", str(tmp_path / "mask.npy")]) == 1
    assert not (tmp_path / "q.hdf").exists()


def test_the_same_command_gives_the_same_bytes(tmp_path):
    for name in "ab":
        for layout in ([], ["--legacy"]):
            assert make(tmp_path / f"{name}{len(layout)}", *GEOMETRY, "--phi-bins", 4, *layout) == 0
    for number in "01":
        assert (tmp_path / f"a{number}").read_bytes() == (tmp_path / f"b{number}").read_bytes()


@pytest.mark.parametrize(("name", "shape"), [("eiger500k", (514, 1030)), ("agipd1m", (16 * 512, 128))])
def test_q_map_of_a_real_detector(tmp_path, name, shape):
    mask = SHARED / f"masks/{name}_mask.npy"
    if not mask.exists():
        pytest.skip("the masks of real detectors are not in ../shared/data/masks")
    options = ["--mask-invert", mask, "--q-bins", 20, "--phi-bins", 8, "--static-per-phi", 2]
    assert make(tmp_path / "q.hdf", "--shape", *shape, *PLACE, *options) == 0
    partition = read_qmap(tmp_path / "q.hdf").partition
    np.testing.assert_array_equal(partition.mask, np.load(mask).reshape(shape))
    np.testing.assert_array_equal(partition.dynamic_roi_map > 0, partition.mask)
