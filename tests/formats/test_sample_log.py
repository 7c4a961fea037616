"""Sample logs as people write them: read whole, or told cell by cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.errors import ConfigError
from ainerd_hpc.formats.beside.sample_log import SampleLog, at_scans, at_times, matches, read
from ainerd_hpc.formats.source_file import SourceFile

TIMES = np.array([1705302000.0, 1705305600.0, 1705309200.0])
"""2024-01-15 at 7, 8 and 9 o'clock UTC."""
DAYS = [f"{time / 86400 + 25569:.8f}" for time in TIMES]
"""The same as a spreadsheet keeps them."""
ZONES = ["2024-01-15 07:00", "2024-01-15 08:00+00:00", "2024-01-15T10:00:00+01:00"]
HOURS = ["2024-01-15T07:00:00", "2024-01-15T08:00:00", "2024-01-15T09:00:00"]


def table(*rows: str, time: list[str] = HOURS, separator: str = ",", header: str = "stress") -> str:
    cells = [separator.join(pair) for pair in zip(time, rows, strict=True)]
    return "\n".join([f"time{separator}{header}", *cells, ""])


def log_of(folder: Path, content: str | bytes, name: str = "log.csv") -> SampleLog:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with SourceFile(path) as file:
        assert matches(file)
    return read(path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (table("7", "8.5", "9"), "log.csv"),
        (table("7", "8.5", "9", separator=";"), "log.csv"),
        (table("7", "8,5", "9", separator=";"), "log.csv"),
        (table("7", '"8,5"', "9"), "log.csv"),
        (table("7", "8.5", "9", separator="\t"), "log.tsv"),
        (table("7", "8,5", "9,0", separator="\t"), "log.txt"),
        (table("7", "8.5", "9").encode("utf-16"), "log.csv"),
        (table("7", "8,5", "9", separator="\t").encode("utf-16"), "log.txt"),
        ("# furnace 3\n% by hand\n\n" + table("7", "8.5", "9"), "log.csv"),
        (table("7", "8.5", "9", header="stress\xb0").encode("cp1252").replace(b"\xb0", b""), "log.csv"),
        (b"\xef\xbb\xbf" + table("7", "8.5", "9").replace("\n", "\r\n").encode(), "log.csv"),
        (table("7", "8.5", "9", time=[f"{time * 1e3:.0f}" for time in TIMES]), "log.csv"),
        (table("7", "8.5", "9", time=[f"{time * 1e9:.0f}" for time in TIMES]), "log.csv"),
        (table("7", "8.5", "9", time=[f"{time / 86400 + 25569:.8f}" for time in TIMES]), "log.csv"),
        (
            table(
                "7", "8,5", "9", time=[f"{time / 86400 + 25569:.8f}".replace(".", ",") for time in TIMES], separator=";"
            ),
            "log.csv",
        ),
        (
            table("7", "8.5", "9", time=["2024-01-15 07:00", "2024-01-15 08:00+00:00", "2024-01-15T10:00:00+01:00"]),
            "log.csv",
        ),
    ],
)
def test_the_same_log_in_many_dialects(content: str | bytes, name: str, tmp_path: Path) -> None:
    found = at_scans(log_of(tmp_path, content, name), TIMES[1:2])
    np.testing.assert_allclose(found.table["time"], TIMES, atol=1e-3)
    assert found.table.drop(columns="time").iloc[:, 0].tolist() == [7.0, 8.5, 9.0]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,234.5", "2,000,000", "3"], [1234.5, 2e6, 3.0]),
        (["1.234,5", "2.000.000,25", "3"], [1234.5, 2000000.25, 3.0]),
        (["1 234,5", "2'000", "-3e-2"], [1234.5, 2000.0, -0.03]),
        (["+.5", "5.", "1E3"], [0.5, 5.0, 1000.0]),
    ],
)
def test_thousands_and_decimals(cells: list[str], expected: list[float], tmp_path: Path) -> None:
    assert log_of(tmp_path, table(*cells, separator=";")).table["stress"].tolist() == expected


def test_a_cell_that_is_no_number_costs_itself_and_is_named(tmp_path: Path) -> None:
    found = log_of(tmp_path, "# one\n" + table("7,a", "oops,b", "9,c", header="stress,operator"))
    np.testing.assert_array_equal(found.table["stress"], [7.0, np.nan, 9.0])
    assert found.notes == (
        "sample log log.csv: column 'stress', line 4: expected a number, found 'oops'; taken as not known",
        "sample log log.csv: column 'operator' holds no number and is not taken",
    )
    assert not log_of(tmp_path, table("7", "n.a.", "9")).notes, "words for nothing say nothing"


def test_cells_beyond_the_header_are_told(tmp_path: Path) -> None:
    found = log_of(tmp_path, "time,stress\n0,1,\n1,2,3\n2,4,5\n")
    assert found.table["stress"].tolist() == [1.0, 2.0, 4.0]
    assert found.notes == (
        "sample log log.csv: line 3 (and 1 more) has more cells than the header, which are not taken",
    )


def test_columns_filled_now_and_then_are_interpolated_between_their_own_values(tmp_path: Path) -> None:
    text = "time,stress,temperature\n0,1,\n1,,20\n2,3,\n3,,40\n4,5,\n"
    at = at_times(log_of(tmp_path, text).table, np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(at["stress"], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(at["temperature"], [np.nan, 20, 30, 40, np.nan])


def test_scans_that_the_log_does_not_meet_are_told(tmp_path: Path) -> None:
    log = log_of(tmp_path, table("7", "8", "9"))
    assert not at_scans(log, TIMES).notes
    (note,) = at_scans(log, np.array([TIMES[0], TIMES[2] + 60, np.nan])).notes
    assert note.startswith("sample log: covers 1 of 2 scans: it goes from 1705302000 to 1705309200 s, they from ")
    (note,) = at_scans(log_of(tmp_path, table("7", "8", "9", time=["0", "1", "70000"])), TIMES).notes
    assert note.startswith("sample log: covers 0 of 3 scans"), "seconds from some start are no days of a spreadsheet"


def test_a_time_that_is_none_stops_and_one_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Time data soon is not ISO8601 format"):
        log_of(tmp_path, table("7", "8", "9", time=["soon", *HOURS[1:]]))
    found = log_of(tmp_path, table("7", "8", "9", time=["", *HOURS[1:]]))
    assert found.table["stress"].tolist() == [8.0, 9.0]
    assert found.notes == ("sample log log.csv: 1 rows without a time are left out",)


NUMBERS = st.one_of(st.floats(-1e9, 1e9), st.integers(-(10**9), 10**9), st.none())


@given(rows=st.lists(st.tuples(st.integers(0, 10**6), NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_a_plain_csv_is_what_pandas_reads(
    rows: list[tuple[int, float, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Value for value: the digests of archives in the field rest on it."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    frame = pd.DataFrame(rows, columns=["time", "a", "b"])
    frame.to_csv(path, index=False)
    expected = pd.read_csv(path).astype(np.float64).sort_values("time", kind="stable").reset_index(drop=True)
    found = read(path).table
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes(b"time," + content)
    try:
        found = read(path)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert found.table["time"].is_monotonic_increasing
