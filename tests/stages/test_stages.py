"""What the stages leave in the archive, against an independent truth from the source files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from zarr.storage import ZipStore

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.map_reader import MapReader
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.config import RunConfig
from ainerd_hpc.kernels.maps import make_map
from ainerd_hpc.pipeline import Run
from tests.conftest import SMALL

MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def archive(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    root = tmp_path_factory.mktemp("stages")
    config = RunConfig.model_validate(
        {
            "archive": root,
            "source": {"path": simulated_source},
            "maps": {"windows": ["full", 40], "overlap": 0.5},
            "executor": {"kind": "inline"},
        }
    )
    Run(config, until="maps").execute()
    return Archive(root)


def _open(path: Path) -> xr.Dataset:
    """A product; with C2 where it has one, made as the README says."""
    product = xr.open_zarr(ZipStore(path, mode="r"), consolidated=False).load()
    if "c2_scale" in product:
        c2 = product.c2_unnormalized * product.c2_scale * product.c2_scale.rename(t1="t2")
        product["c2"] = c2.astype("float32").assign_attrs(product.c2_unnormalized.attrs)
    return product


def _counts(source: Path, scan_id: str, q_bin: int) -> np.ndarray:
    """Counts (t, p) of one q-bin, read with plain h5py."""
    with h5py.File(source / f"{scan_id}.h5") as file:
        frames = file["entry/data/data"][...].astype(np.float64)
    with h5py.File(source / "simulated_qmap.hdf") as file:
        inside = (file["qmap/dynamic_roi_map"][...] == q_bin + 1) & (file["qmap/mask"][...] > 0)
    return frames[:, inside]


def test_frames_are_the_source_unchanged(archive: Archive, simulated_source: Path) -> None:
    frames = _open(archive.frames_path("sim_0002"))["frames"]
    with h5py.File(simulated_source / "sim_0002.h5") as file:
        np.testing.assert_array_equal(frames.to_numpy(), file["entry/data/data"][...])
    assert frames.dims == ("t", "y", "x")
    assert frames.dtype == np.uint16


@pytest.mark.parametrize("q_bin", [0, 1])
def test_c2_and_g2_equal_the_definitions(archive: Archive, simulated_source: Path, q_bin: int) -> None:
    product = _open(archive.correlation_path("sim_0001"))
    counts = _counts(simulated_source, "sim_0001", q_bin)
    sums = counts.sum(axis=1)
    c2 = counts.shape[1] * (counts @ counts.T) / np.outer(sums, sums)
    np.testing.assert_allclose(product["c2"][q_bin], c2, rtol=1e-6)
    assert product["num_pixels"][q_bin] == counts.shape[1]
    np.testing.assert_allclose(product["intensity"][q_bin], counts.mean(axis=1), rtol=1e-6)


def test_g2_of_one_lag_by_hand(archive: Archive, simulated_source: Path) -> None:
    product = _open(archive.correlation_path("sim_0001"))
    counts = _counts(simulated_source, "sim_0001", 1)
    with h5py.File(simulated_source / "simulated_qmap.hdf") as file:
        inside = (file["qmap/dynamic_roi_map"][...] == 2) & (file["qmap/mask"][...] > 0)
        static = file["qmap/static_roi_map"][...][inside]
    past, future = counts[:-3], counts[3:]
    ratios = []
    for label in np.unique(static):
        pixels = static == label
        correlation = (past * future).mean(axis=0)[pixels].mean()
        ratios.append(correlation / (past.mean(axis=0)[pixels].mean() * future.mean(axis=0)[pixels].mean()))
    assert product["g2"].sel(lag=3)[1] == pytest.approx(np.mean(ratios), rel=1e-6)


def test_correlation_is_self_describing(archive: Archive, simulated_source: Path) -> None:
    product = _open(archive.correlation_path("sim_0000"))
    assert product["c2"].dims == ("q_bin", "t1", "t2")
    assert product["c2"].dtype == np.float32
    assert product["g2"].dims == product["g2_err"].dims == ("q_bin", "lag")
    np.testing.assert_allclose(product["delay"], product["lag"] * SMALL.frame_time)
    assert product["delay"].attrs["units"] == "s"
    assert product["dynamic_q_list"].attrs["units"] == "1/angstrom"
    with h5py.File(simulated_source / "simulated_qmap.hdf") as file:
        np.testing.assert_allclose(product["dynamic_q_list"], file["qmap/dynamic_v_list_dim0"][...])
    assert {"digest", "config_digest", "input_digest", "ainerd_hpc_version", "kernel_version"} <= set(product.attrs)
    assert product.attrs["simulated"] is True
    assert product["c2"].attrs["baseline_reference"] == 1


def test_maps_are_the_windows_of_c2(archive: Archive) -> None:
    index = read_table(archive.map_index_path)
    expected = [(q_bin, *ages) for q_bin in (0, 1) for ages in ((0, 64), (0, 40), (20, 60))]
    rows = index[index["scan_id"] == "sim_0004"]
    assert list(zip(rows["q_bin"], rows["age_start"], rows["age_stop"], strict=True)) == expected
    c2 = _open(archive.correlation_path("sim_0004"))["c2"].to_numpy()
    reader = MapReader(archive, rows)
    for i, (q_bin, start, stop) in enumerate(expected):
        scaled = make_map(c2[q_bin, start:stop, start:stop], "robust")
        np.testing.assert_array_equal(reader[i], scaled.map)
        assert rows["scale_high"].iloc[i] == scaled.high
        assert rows["seconds_per_pixel"].iloc[i] == pytest.approx((stop - start) * SMALL.frame_time / 256)
        assert rows["map_id"].iloc[i] == f"sim_0004:{q_bin}:{start}-{stop}"


def test_times_of_the_maps(archive: Archive) -> None:
    index = read_table(archive.map_index_path).iloc[1]
    start = next(scan.start_time for scan in archive.read_catalog() if scan.scan_id == index["scan_id"])
    assert index["time"] == pytest.approx(start + 20 * SMALL.frame_time, abs=1e-6)


def test_maps_of_two_time_files(tmp_path: Path, make_config: MakeConfig) -> None:
    """Decays that were put in as two-time maps come out of the index, whatever the baseline they were stored with."""
    t = np.arange(200)
    (tmp_path / "c2").mkdir()
    for tau in (20.0, 60.0):
        decay = 0.3 * np.exp(-2 * (np.abs(t[:, None] - t) / tau) ** 1.5)
        np.save(tmp_path / "c2" / f"tau_{tau:.0f}.npy", decay)
    config = make_config(
        tmp_path / "c2",
        source={"path": tmp_path / "c2", "frame_time": "0.5 s", "baseline_reference": 0},
        maps={"windows": ["full"]},
    )
    Run(config, until="maps").execute()
    archive = Archive(config.archive)
    index = read_table(archive.map_index_path).set_index("scan_id")
    for tau in (20, 60):
        row = index.loc[f"tau_{tau}"]
        assert row["tau"] == pytest.approx(0.5 * tau, rel=0.01)
        assert row["kww_exponent"] == pytest.approx(1.5, rel=0.01)
        assert row["contrast"] == pytest.approx(0.3, rel=0.01)
        g2 = _open(archive.correlation_path(f"tau_{tau}"))["g2"][0]
        np.testing.assert_allclose(g2, 1 + 0.3 * np.exp(-2 * (t[1:] / tau) ** 1.5), rtol=1e-6)


def test_windows_longer_than_a_scan_are_left_out_and_none_is_a_fault(
    simulated_source: Path, make_config: MakeConfig
) -> None:
    config = make_config(simulated_source, maps={"windows": [500]})
    with pytest.raises(Exception, match="expected at least one window within 64 frames"):
        Run(config, until="maps").execute()
