"""Conditions mean what they say, row by row, and can do nothing else."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.errors import ConfigError
from ainerd_hpc.sources.conditions import matching

TABLE = pd.DataFrame(
    {
        "frames": [1, 2, 3, 1000],
        "time": [0.5, np.nan, 2.0, -1.0],
        "detector": ["Eiger 4M", "Lambda", "", "Eiger (500k)"],
        "simulated": [True, False, False, True],
        "stress (Pa)": [0.0, 1.0, 2.0, 3.0],
        "start": pd.to_datetime(["2024-01-01 00:00", "2024-03-01 12:00", None, "2025-06-01 00:00"]),
    }
)
ROWS = TABLE.to_dict("records")


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("frames > 2", [2, 3]),
        ("1 < frames <= 3", [1, 2]),
        ("frames in [1, 1000]", [0, 3]),
        ("frames not in (1, 2)", [2, 3]),
        ("time > 0", [0, 2]),
        ("time != 2.0", [0, 1, 3]),
        ("frames * time == 6", [2]),
        ("-frames / 2 <= -1", [1, 2, 3]),
        ('detector == ""', [2]),
        ('"Eiger" in detector', [0, 3]),
        ('"Eiger (" in detector', [3]),
        ('detector.startswith("Eiger") and not detector.endswith("M")', [3]),
        ('not detector.contains("a")', [0, 2, 3]),
        ("simulated", [0, 3]),
        ("simulated == false or frames == 1", [0, 1, 2]),
        ("`stress (Pa)` >= 2", [2, 3]),
        ('start >= "2024-03-01"', [1, 3]),
        ('start < "2024-03-01T12:30:00+02:00"', [0]),
        ("  (frames == 1 or frames == 2) and simulated", [0]),
        ("frames in []", []),
    ],
)
def test_meaning(condition: str, rows: list[int]) -> None:
    assert matching(TABLE, condition).index.tolist() == rows


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("@pd.io.common.os.system('touch RAN') == 0", "at character 1: invalid syntax"),
        ("__import__('os').system('touch RAN')", "at character 1: expected a test such as"),
        ("frames.to_csv('RAN')", "expected a test such as"),
        ("detector.str.replace('a', 'b') == ''", "at character 1: expected a column"),
        ("frames.__class__ == 1", "at character 1: expected a column"),
        ("[x for x in frames] == 1", "expected a column"),
        ("(lambda: 1)() == 1", "expected a column"),
        ("frames := 3", "invalid syntax"),
        ("frames if simulated else time", "expected a column"),
        ("frames[0] == 1", "expected a column"),
        ("f'{frames}' == '1'", "expected a column"),
        ("frames == 2 ** 9", "at character 11: expected a column"),
        ("frames > 1 & time > 0", "at character 10: expected a column"),
        ("frame > 1", "at character 1: no column is called 'frame'"),
        ("frames == 'a'", "at character 11: expected a number to compare with, found a text"),
        ("detector > 3", "expected a text to compare with, found a number"),
        ("start > 'soon'", "at character 9: expected a date such as '2024-03-01', found 'soon'"),
        ("frames", "at character 1: expected a comparison"),
        ("1 == 1 / 0", "division by zero"),
        ("", "invalid syntax"),
        ("frames is 1", "expected == != < <= > >= or in"),
        ("frames == 1" + " and frames == 1" * 2000, "expected at most 10000 characters, found 32011"),
        ("(" * 3000 + "frames", "too many nested parentheses"),
        ("not " * 2000 + "simulated", "recursion"),
        ("frames == 1\x00", "null bytes"),
    ],
)
def test_anything_else_is_refused_with_its_place(
    condition: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        matching(TABLE, condition)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value).replace(repr(condition), "")
    assert not list(tmp_path.iterdir()), "nothing was run"


NUMBERS = st.sampled_from(["frames", "time", "`stress (Pa)`", "1", "2.0", "-1"])
COMPARISONS = st.builds(
    lambda one, op, other: f"{one} {op} {other}", NUMBERS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), NUMBERS
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(lambda one, word, other: f"({one}) {word} ({other})", inner, st.sampled_from(["and", "or"]), inner),
        st.builds(lambda one: f"not ({one})", inner),
    ),
    max_leaves=6,
)


@given(condition=CONDITIONS)
def test_every_row_is_judged_as_python_would(condition: str) -> None:
    def holds(row: dict[str, Any]) -> bool:
        names = {name.replace("stress (Pa)", "stress"): value for name, value in row.items()}
        return bool(eval(condition.replace("`stress (Pa)`", "stress"), {"__builtins__": {}}, names))

    assert matching(TABLE, condition).index.tolist() == [n for n, row in enumerate(ROWS) if holds(row)]


@given(text=st.text(max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert len(matching(TABLE, text)) <= len(TABLE)
