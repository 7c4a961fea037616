"""What goes with what, on tables of maps whose relations are planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.report.relations import Tables, relate
from ainerd_hpc.types import Content, Scan

NUM_SCANS, Q_BINS, SPACING = 60, 3, 100.0
SCAN = Scan("s", "s.h5", "aps", Content.FRAMES, 100, 8, 8, 2, Q_BINS, 0.5)


def _archive(of_scan: np.ndarray, windows: int = 1) -> tuple[pd.DataFrame, list[Scan]]:
    """Maps whose label is that of their scan, but for one in ten; half decays go with the label."""
    chance, num = np.random.default_rng(0), len(of_scan) * windows * Q_BINS
    scan, window = (
        np.repeat(np.arange(len(of_scan)), windows * Q_BINS),
        np.tile(np.repeat(np.arange(windows), Q_BINS), len(of_scan)),
    )
    label = np.where(chance.random(num) < 0.1, chance.integers(-1, 3, num), of_scan[scan])
    start = window * 100 // windows
    table = pd.DataFrame(
        {
            "scan_id": [f"s{one:03d}" for one in scan],
            "q_bin": np.tile(np.arange(Q_BINS), len(of_scan) * windows),
            "age_start": start,
            "age_stop": start + 100 // windows,
            "time": scan * SPACING + (start + 50 / windows) * SCAN.frame_time,
            "label": label,
            "half_decay": np.exp(2.0 * of_scan[scan] + chance.normal(0, 0.1, num)),
        }
    )
    return table, [replace(SCAN, scan_id=f"s{one:03d}", detector="ab"[one % 2]) for one in range(len(of_scan))]


def _log(**columns: np.ndarray) -> pd.DataFrame:
    num = len(next(iter(columns.values())))
    return pd.DataFrame({"time": np.linspace(0, NUM_SCANS * SPACING, num), **columns})


def _relate(table: pd.DataFrame, scans: list[Scan], log: pd.DataFrame) -> Tables:
    names = [name for name in log if name != "time"]
    known = {name: np.interp(table["time"], log["time"], log[name]) for name in names}
    return relate(table.assign(**known), scans, log, names)


@pytest.fixture(scope="module")
def found() -> Tables:
    """Labels that go to and fro, a stress that goes with cluster 1, a temperature that goes with nothing."""
    chance = np.random.default_rng(1)
    of_scan = np.repeat(chance.permutation(np.arange(20) % 2), 3)
    stress = np.repeat(of_scan, 10) * 5.0 + chance.normal(0, 0.2, 600)
    return _relate(*_archive(of_scan), _log(stress_Pa=stress, temperature=chance.normal(20, 1, 600)))


def _row(tables: Tables, column: str, cluster: int) -> pd.Series:
    rows = tables.relations
    return rows[(rows["column"] == column) & (rows["cluster"] == cluster)].iloc[0]


def test_the_column_that_goes_with_a_cluster_is_told_in_words(found: Tables) -> None:
    row = _row(found, "stress_Pa", 1)
    assert row["effect"] > 0.7
    assert row["p_value"] <= 0.005
    assert row["p_shifted"] <= 0.05
    figures = f"(Cliff's delta {row['effect']:.2f}, p {row['p_value']:.2g} of 60 scans)"
    assert row["words"] == f"stress_Pa: higher in cluster 1 than elsewhere {figures}"
    assert _row(found, "stress_Pa", 0)["words"].startswith("stress_Pa: lower in cluster 0 than elsewhere")


def test_columns_that_go_with_nothing_carry_no_word(found: Tables) -> None:
    for name in ("temperature", "detector"):
        rows = found.relations[found.relations["column"] == name]
        assert len(rows)
        assert rows["words"].str.contains("nothing sure").all()
    assert set(found.findings["column"]) == {"stress_Pa"}
    assert (found.findings["p_value"] <= 0.05).all()


def test_a_slow_drift_of_both_is_told_from_an_effect() -> None:
    """Labels and temperature rise together, once: scans in any order cannot tell, and the words say so."""
    rising = np.arange(NUM_SCANS) // 20
    tables = _relate(*_archive(rising), _log(temperature=np.linspace(20, 80, 600)))
    row = _row(tables, "temperature", 2)
    assert row["p_value"] <= 0.005
    assert row["p_shifted"] > 0.05
    assert "; slow drifts of both could do as much (p " in row["words"]


def test_columns_that_change_within_a_scan_are_shifted_in_time() -> None:
    chance = np.random.default_rng(2)
    of_scan = np.repeat(chance.permutation(np.arange(20) % 2), 3)
    tables = _relate(*_archive(of_scan, windows=2), _log(stress=np.repeat(of_scan, 10) + chance.normal(0, 0.1, 600)))
    row = _row(tables, "stress", 1)
    assert (row["controls"], row["units"]) == ("shifted in time", 120)
    assert row["p_value"] <= 0.02
    assert row["words"].endswith("of 120 windows)")


def test_sudden_steps_are_tied_to_changes_of_labels_and_speed() -> None:
    of_scan = np.zeros(NUM_SCANS, int)
    of_scan[20:30], of_scan[45:] = 1, 1
    stress = np.random.default_rng(3).normal(0, 0.1, 6000)
    stress[1990:] -= 4  # scan 19.9
    table, scans = _archive(of_scan)
    table["label"] = of_scan[np.repeat(np.arange(NUM_SCANS), Q_BINS)]
    step = _relate(table, scans, _log(stress=stress)).events
    assert len(step) == 1
    step = step.iloc[0]
    assert step["time"] == pytest.approx(1990, abs=2)
    assert (step["changed"], step["lag"]) == (1.0, 0.0)
    assert step["speed"] == pytest.approx(np.exp(2), rel=0.2)
    assert step["p_lag_corrected"] == pytest.approx(3 / 59), "as at the other two changes"
    assert step["p_speed_corrected"] <= 0.06


def test_steps_are_told_by_date_where_the_log_has_dates() -> None:
    table, scans = _archive(np.arange(NUM_SCANS) // 3 % 2)
    log = _log(stress=np.repeat([5.0, 1.0], 300))
    table["time"], log["time"] = table["time"] + 1.7e9, log["time"] + 1.7e9
    (words,) = _relate(table, scans, log).events["words"]
    assert words.startswith("stress: drop of 4 at 2023-11-14 23:03:2")


def test_transitions_are_told_for_each_q_bin(found: Tables) -> None:
    assert found.transitions["q_bin"].tolist() == [0, 1, 2]
    assert (found.transitions["pairs"] == NUM_SCANS - 1).all()
    assert (found.transitions["as_next"].iloc[:2] > 0.7).all()
    assert found.transitions["words"].str.startswith("q-bin ").all()


@pytest.mark.parametrize("num", [1, 2, 3])
def test_archives_too_small_to_say_anything_say_nothing(num: int) -> None:
    assert _relate(*_archive(np.arange(num)), _log(stress=np.arange(600.0))).findings.empty


def test_texts_that_name_scans_are_no_conditions() -> None:
    table, scans = _archive(np.arange(NUM_SCANS) % 2)
    named = [replace(one, partition=one.scan_id) for one in scans]
    assert "partition" not in set(_relate(table, named, _log(stress=np.arange(600.0))).relations["column"])


def test_noise_alone_times_that_are_not_known_and_no_log_are_no_fault() -> None:
    table, scans = _archive(np.arange(NUM_SCANS) % 2)
    nothing = pd.DataFrame({"time": np.empty(0)})
    assert _relate(table.assign(label=-1), scans, _log(stress=np.arange(600.0))).findings.empty
    assert _relate(table.assign(time=5.0), scans, _log(stress=np.arange(600.0))).transitions["changes"].sum() > 0
    (finding,) = _relate(table.assign(time=np.nan), scans, nothing).findings["words"]
    assert finding.startswith("detector: not the same in all clusters (Cramer's V")
