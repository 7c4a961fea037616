"""Masks from the files of other programs, written byte by byte; both conventions; damaged files."""

from __future__ import annotations

import contextlib
import struct
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.partitions.masks import read_mask
from tests.support.places import SHARED

BAD = np.array([[0, 1, 0], [0, 0, 1]])
"""1 = masked."""


def edf(values: np.ndarray, kind: str, order: str = "LowByteFirst", **keys: object) -> bytes:
    """Header in blocks of 512 bytes, then the rows; source: ESRF data format."""
    entries = {"ByteOrder": order, "DataType": kind, "Dim_1": values.shape[1], "Dim_2": values.shape[0], **keys}
    text = "{\n" + "".join(f"{key} = {value} ;\n" for key, value in entries.items())
    return (text.ljust(510) + "}\n").encode() + values.tobytes()


def tiff(values: np.ndarray, order: str = "<") -> bytes:
    """One strip, 8 or 16 bits; source: TIFF 6.0, baseline grayscale."""
    bits = 8 * values.itemsize
    tags = [(256, 4, values.shape[1]), (257, 4, values.shape[0]), (258, 3, bits), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, values.shape[0]), (279, 4, values.nbytes)]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = (
        mark + struct.pack(f"{order}I", 8 + values.nbytes) + values.astype(values.dtype.newbyteorder(order)).tobytes()
    )
    body += struct.pack(f"{order}H", len(tags))
    for tag, kind, value in tags:
        packed = struct.pack(f"{order}I", value) if kind == 4 else struct.pack(f"{order}HH", value, 0)
        body += struct.pack(f"{order}HHI", tag, kind, 1) + packed
    return body + struct.pack(f"{order}I", 0)


def npy(values: np.ndarray) -> bytes:
    """Version 1.0; source: numpy.lib.format."""
    header = repr({"descr": values.dtype.str, "fortran_order": False, "shape": values.shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + values.tobytes()


FILES = {
    "signed edf": edf(BAD.astype("<i1"), "SignedByte"),
    "edf of 16 bits": edf(BAD.astype(">u2"), "UnsignedShort", "HighByteFirst"),
    "edf of 32 bits": edf(BAD.astype("<i4"), "SignedInteger"),
    "edf of floats": edf(BAD.astype("<f4"), "FloatValue"),
    "tiff of 8 bits": tiff(BAD.astype("u1")),
    "tiff of 16 bits": tiff(255 * BAD.astype("u2")),
    "big-endian tiff": tiff(BAD.astype("u2"), ">"),
    "npy of bool": npy(BAD.astype(bool)),
    "npy of int64": npy(-3 * BAD.astype("<i8")),
    "npy of floats": npy(BAD.astype("<f8")),
    "npy of modules": npy(BAD.astype("u1").reshape(2, 1, 3)),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_not_zero_is_masked_or_used(tmp_path, kind):
    path = tmp_path / "mask.any"
    path.write_bytes(FILES[kind])
    mask = read_mask(path)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, BAD == 0)
    np.testing.assert_array_equal(read_mask(path, nonzero_is_masked=False), BAD != 0)


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4"])
def test_masks_written_by_fabio(tmp_path, kind):
    edfimage = pytest.importorskip("fabio.edfimage")
    edfimage.EdfImage(data=BAD.astype(kind)).write(str(tmp_path / "mask.edf"))
    pytest.importorskip("fabio.tifimage").TifImage(data=BAD.astype(kind)).write(str(tmp_path / "mask.tif"))
    for name in ("mask.edf", "mask.tif"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), BAD == 0)


def write_hdf5(path: Path, **datasets: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[f"entry/{name}"] = values
    return path


def test_hdf5_with_one_mask(tmp_path):
    path = write_hdf5(tmp_path / "mask.h5", mask=BAD.astype("u1"), other=np.arange(3))
    np.testing.assert_array_equal(read_mask(path), BAD == 0)


def test_hdf5_with_several_needs_the_name(tmp_path):
    path = write_hdf5(tmp_path / "mask.h5", first=BAD, second=1 - BAD)
    with pytest.raises(ScanError, match="found 2: entry/first, entry/second; name the one"):
        read_mask(path)
    np.testing.assert_array_equal(read_mask(path, "/entry/second"), BAD == 1)
    with pytest.raises(ScanError, match="found none"):
        read_mask(path, "/entry/third")


@pytest.mark.parametrize("root", ["qmap", "data"])
def test_mask_of_a_partition_file_is_1_where_used(tmp_path, root):
    labels = 1 - BAD
    lists = {"qmap": {"v_list_dim0": [0.1], "num_pts": [1, 1], "index_mapping": [0]}, "data": {}}[root]
    with h5py.File(tmp_path / "qmap.h5", "w") as file:
        file[f"{root}/mask"] = labels.astype("u1")
        for kind, name in {"dynamic": "dynamicMap", "static": "staticMap"}.items():
            file[f"{root}/{name if root == 'data' else kind + '_roi_map'}"] = labels
            for part, value in lists.items():
                file[f"{root}/{kind}_{part}"] = value
            if root == "data":
                file[f"data/{kind[0]}qval"] = [[0.1]]
    for nonzero_is_masked in (True, False):
        np.testing.assert_array_equal(read_mask(tmp_path / "qmap.h5", nonzero_is_masked=nonzero_is_masked), BAD == 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found a file that starts with"),
        (b"mask", "found a file that starts with b'mask'"),
        (npy(np.arange(4.0)), "found float64 (4,)"),
        (npy(np.array([[0.5, 1.0]])), "found float64 (1, 2)"),
        (npy(np.array([[np.nan, 1.0]])), "found float64 (1, 2)"),
        (npy(np.zeros((0, 3))), "found float64 (0, 3)"),
        (npy(BAD)[:-1], "cannot read it as a mask"),
        (npy(np.array([[1]])).replace(b"<i8", b"|O8"), "cannot read it as a mask"),
        (edf(BAD.astype("i1"), "SignedByte")[:-1], "cannot read it as a mask"),
        (edf(BAD.astype("i1"), "Unheard"), "cannot read it as a mask"),
        (edf(BAD.astype("i1"), "SignedByte", Dim_1=10**9, Dim_2=10**9), "at most 67108864 pixels"),
        (edf(BAD.astype("i1"), "SignedByte", Dim_1=-3, Dim_2=-2), "at most 67108864 pixels"),
        (edf(BAD.astype("i1"), "SignedByte", Compression="GZIP"), "plain data"),
        (edf(BAD.astype("i1"), "SignedByte", EDF_BinaryFileName="/etc/hostname"), "plain data"),
        (tiff(BAD.astype("u1"))[:20], "cannot read it as a mask"),
        (b"\x89HDF\r\n\x1a\n", "cannot read it as a mask"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "mask.any"
    path.write_bytes(content)
    with pytest.raises(ScanError) as error:
        read_mask(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ScanError, match=r"none\.edf"):
        read_mask(tmp_path / "none.edf")


@settings(max_examples=50)
@given(kind=st.sampled_from([*FILES, "hdf5"]), seed=st.integers(0, 999), cut=st.floats(0.0, 1.0), is_cut=st.booleans())
def test_damaged_files_are_refused_or_read(tmp_path_factory, kind, seed, cut, is_cut):
    path = tmp_path_factory.mktemp("mask") / "mask.any"
    content = bytearray(FILES[kind] if kind in FILES else write_hdf5(path, mask=BAD).read_bytes())
    chance = np.random.default_rng(seed)
    for place in chance.integers(0, len(content), 4):
        content[place] = chance.integers(256)
    path.write_bytes(content[: int(cut * len(content))] if is_cut else content)
    start = time.monotonic()
    with contextlib.suppress(ScanError):
        assert read_mask(path).ndim == 2
    assert time.monotonic() - start < 5.0


@given(st.binary(max_size=300))
@settings(max_examples=50)
def test_random_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("mask") / "mask.any"
    for start in (b"", b"{\n", b"II*\0", b"\x93NUMPY\x01\x00"):
        path.write_bytes(start + content)
        with pytest.raises(ScanError):
            read_mask(path)


@pytest.mark.parametrize(("name", "shape"), [("eiger500k", (514, 1030)), ("agipd1m", (16 * 512, 128))])
def test_masks_of_real_detectors(name, shape):
    """True = good in both; most pixels are."""
    path = SHARED / f"masks/{name}_mask.npy"
    if not path.exists():
        pytest.skip("the masks of real detectors are not in ../shared/data/masks")
    mask = read_mask(path, nonzero_is_masked=False)
    assert mask.shape == shape
    assert 0.6 < mask.mean() < 1.0
