"""Timepix4 files, whose layout is not public, are named and not passed over."""

from __future__ import annotations

import pytest

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.events.timepix import Timepix
from ainerd_hpc.formats.source_file import SourceFile


@pytest.mark.parametrize("name", ["scan.tpx", "scan.TPX4"])
@pytest.mark.parametrize("content", [b"", b"TPX3", bytes(5000)])
def test_it_says_what_is_missing_and_what_to_do(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    expected = rf"{name}: .*layout of words is not public; convert it .*/entry/data/data.*frame_pointer.*frames_shape"
    with SourceFile(path) as file:
        assert Timepix.matches(file)
        with pytest.raises(ScanError, match=expected) as error:
            Timepix.describe(file)
    assert "\n" not in str(error.value)
    with pytest.raises(ScanError, match=expected), Timepix.open(path):
        pass


@pytest.mark.parametrize("name", ["scan.tpx3", "scan.bin", "absent.tpx", "folder.tpx", "."])
def test_nothing_else_matches(tmp_path, name):
    (tmp_path / "folder.tpx").mkdir()
    if name not in ("absent.tpx", "folder.tpx", "."):
        (tmp_path / name).write_bytes(b"TPX4")
    assert not Timepix.matches(SourceFile(tmp_path / name))
