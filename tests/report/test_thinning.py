"""A thinned page keeps what is rare and what is novel, says what it left out, and counts all maps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.report.thinning import choose, thin


def table_of(labels: np.ndarray, q_bins: np.ndarray, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    novelty = rng.random(len(labels))
    novelty[rng.random(len(labels)) < 0.05] = np.nan
    return pd.DataFrame({"label": labels, "q_bin": q_bins, "novelty": novelty, "time": rng.permutation(len(labels))})


def group_sizes(table: pd.DataFrame) -> pd.Series:
    return table.groupby(["label", "q_bin"]).size()


@settings(deadline=None, max_examples=150)
@given(
    num=st.integers(0, 400),
    most=st.integers(1, 300),
    num_labels=st.integers(1, 12),
    num_q_bins=st.integers(1, 7),
    skew=st.floats(0.2, 4),
    num_first=st.integers(0, 30),
    seed=st.integers(0, 99),
)
def test_what_is_drawn(
    num: int, most: int, num_labels: int, num_q_bins: int, skew: float, num_first: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = (num_labels * rng.random(num) ** skew).astype(int) - 1
    table = table_of(labels, rng.integers(0, num_q_bins, num), seed)
    first = rng.permutation(num)[: min(num, num_first)].tolist()
    found = thin(table, most, first)
    shown = table.iloc[found.rows]
    assert len(found.rows) == min(num, most)
    assert (np.diff(found.rows) > 0).all()
    assert set(first[:most]) <= set(found.rows.tolist())
    assert bool(found.text) == (num > most)
    for label, members in shown.groupby("label"):
        assert found.stands_for[np.isin(found.rows, members.index)].sum() == (labels == label).sum()
    if num > most:
        room = most - len(set(first))
        novel = table["novelty"].sort_values(ascending=False, kind="stable", na_position="last").index
        assert set(novel[: max(0, min(most // 10, room))]) <= set(found.rows)
        level = max(0, room - most // 10) // 2 // len(group_sizes(table))
        sizes, drawn = group_sizes(table), group_sizes(shown)
        assert (drawn.reindex(sizes.index, fill_value=0) >= np.minimum(sizes, level)).all()


def test_q_bins_that_divide_the_step_are_all_drawn() -> None:
    table = table_of(np.zeros(1000, int), np.arange(1000) % 4)
    shown = table.iloc[thin(table, 100).rows]
    assert group_sizes(shown).tolist() == pytest.approx([25, 25, 25, 25], abs=5)


def test_within_a_group_the_whole_range_of_novelty_is_drawn() -> None:
    table = table_of(np.zeros(10_000, int), np.zeros(10_000, int)).assign(novelty=np.linspace(0, 1, 10_000))
    novelty = table["novelty"].iloc[thin(table, 100).rows].to_numpy()
    assert np.histogram(novelty, 10, (0, 1))[0].tolist() == pytest.approx([9] * 9 + [19], abs=2)


def test_a_million_maps() -> None:
    """20 clusters of 30 maps and three large ones, 10 q-bins: all small ones and the 100 most novel maps are drawn."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.repeat([0, 1, -1], [498_401, 400_000, 100_999]), np.repeat(np.arange(2, 22), 30)])
    labels = rng.permutation(labels)
    table = table_of(labels, np.arange(1_000_000) % 10)
    found = thin(table, 20_000)
    shown = table.iloc[found.rows]
    assert len(shown) == 20_000
    assert shown["label"].value_counts().reindex(range(2, 22)).eq(30).all()
    assert set(table["novelty"].nlargest(100).index) <= set(found.rows)
    counted = pd.Series(found.stands_for).groupby(shown["label"].to_numpy()).sum()
    assert counted.loc[[0, 1, -1]].tolist() == [498_401, 400_000, 100_999]
    sizes = group_sizes(table)
    num_whole = int((group_sizes(shown).reindex(sizes.index, fill_value=0) == sizes).sum())
    assert found.text.startswith("20,000 of 1,000,000 maps are drawn: the 2,000 most novel, ")
    assert f" of {num_whole} of {len(sizes)} it is all." in found.text


@settings(deadline=None, max_examples=60)
@given(
    num=st.integers(0, 300),
    points=st.integers(1, 320),
    thumbnails=st.integers(1, 320),
    details=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_what_is_detailed_has_a_thumbnail_and_what_has_one_is_drawn(
    num: int, points: int, thumbnails: int, details: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    table = table_of(rng.integers(-1, 4, num), rng.integers(0, 3, num), seed)
    first = rng.permutation(num)[: min(num, 10)].tolist()
    shown = choose(table, points, thumbnails, details, first)
    drawn = np.concatenate([shown.pictured, shown.others])
    assert len(set(drawn)) == len(drawn) == len(shown.stands_for) == min(num, points)
    assert len(shown.pictured) == min(num, points, thumbnails)
    assert len(shown.detailed) == min(num, points, thumbnails, details)
    assert set(shown.detailed) <= set(shown.pictured)
    assert set(first[: min(points, thumbnails, details)]) <= set(shown.detailed)
    assert all((np.diff(rows) > 0).all() for rows in (shown.pictured, shown.others, shown.detailed))
    labels = table["label"].to_numpy()
    for label in set(labels[drawn]):
        assert shown.stands_for[labels[drawn] == label].sum() == (labels == label).sum()
    assert bool(shown.text) == (num > min(points, thumbnails))


def test_it_is_said_what_is_drawn_and_what_has_a_thumbnail() -> None:
    table = table_of(np.zeros(1000, int), np.zeros(1000, int))
    text = choose(table, 500, 100, 10).text
    assert text.startswith("500 of 1,000 maps are drawn: ")
    assert " 100 of 500 maps have a thumbnail and all of their figures: " in text
    assert text.endswith(" Numbers of maps are those of all maps.")
