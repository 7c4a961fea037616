"""What a scan is to an archive, against the rules written out again."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.watching.verdict import Kind, Rules, change_shares, rules, verdict

USUAL = Rules(novel=0.6, rare=frozenset({7}), change=0.3)


def maps(labels: list[int], novelty: float | list[float] = 0.4, q_bins: int = 1, scan_id: str = "new") -> pd.DataFrame:
    """Windows of 10 frames, one after the other, those of each q-bin together."""
    number, per_bin = np.arange(len(labels)), len(labels) // q_bins
    start = number % per_bin * 10
    table = {"scan_id": scan_id, "q_bin": number // per_bin, "age_start": start, "age_stop": start + 10}
    return pd.DataFrame({**table, "label": labels, "novelty": novelty})


@pytest.mark.parametrize(
    ("labels", "novelty", "kind", "label"),
    [
        ([1, 1, 1, 1], 0.4, Kind.KNOWN, 1),
        ([-1, -1, -1, 1], 0.7, Kind.NEW, -1),
        ([-1, -1, -1, -1], 0.5, Kind.KNOWN, -1),  # in no cluster, as outskirts are, but nothing new
        ([7, 7, 7, 1], 0.9, Kind.RARE, 7),
        ([1, 2, 1, 2], 0.4, Kind.CHANGE, 1),
        ([-1, -1, 1, 1], [0.7, 0.7, 0.4, np.nan], Kind.NEW, -1),  # two of the three that have a place
    ],
)
def test_most_maps_speak_for_a_scan(labels: list[int], novelty, kind: Kind, label: int) -> None:
    found = verdict(maps(labels, novelty), USUAL)
    assert (found.kind, found.label) == (kind, label)


def test_a_scan_without_any_place_is_new() -> None:
    found = verdict(maps([-1, -1], np.nan), USUAL)
    assert found.kind is Kind.NEW
    assert np.isnan(found.novelty)


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(-1, 2), min_size=1, max_size=6), min_size=1, max_size=5))
def test_changes_are_those_of_neighbouring_windows(scans: list[list[int]]) -> None:
    tables = [maps(labels, scan_id=f"s{number}") for number, labels in enumerate(scans)]
    expected = [
        np.mean([a != b for a, b in itertools.pairwise(labels)]) if len(labels) > 1 else 0.0 for labels in scans
    ]
    mixed = pd.concat(tables).sample(frac=1, random_state=0)
    np.testing.assert_allclose(change_shares(mixed), expected)


def test_windows_of_other_q_bins_and_lengths_are_no_neighbours() -> None:
    table = maps([1, 1, 2, 2], q_bins=2)
    whole = table.iloc[[0]].assign(age_stop=20, label=5)
    assert change_shares(pd.concat([table, whole])) == [0.0]


def test_the_archive_sets_the_rules() -> None:
    """A kind of one map in 200 is rare, and a scan that changes more often than all others is unusual."""
    table = pd.concat([maps([1] * 20, scan_id=f"s{number}") for number in range(19)] + [maps([1] * 19 + [2])])
    found = rules(table, 0.6)
    assert found.rare == {2}
    assert 0 < found.change <= 1 / 19
    assert verdict(maps([1, 2, 1, 2]), found).kind is Kind.CHANGE
