"""Scores against what one counts by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.evaluation import scores
from ainerd_hpc.evaluation.archives import WHOLE


def counted_ari(one: list[int], two: list[int]) -> float:
    """From all pairs (Hubert and Arabie 1985)."""
    pairs = list(combinations(range(len(one)), 2))
    both = sum(one[a] == one[b] and two[a] == two[b] for a, b in pairs)
    first, second = (sum(labels[a] == labels[b] for a, b in pairs) for labels in (one, two))
    by_chance, most = first * second / len(pairs), (first + second) / 2
    return 1.0 if most == by_chance else (both - by_chance) / (most - by_chance)


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=4, max_size=30))
def test_agreement_is_counted_over_pairs(pairs: list[tuple[int, int]]) -> None:
    labels, kinds = (np.array(values) for values in zip(*pairs, strict=True))
    found = scores.agreement(labels, kinds)
    assert found["ari"] == pytest.approx(counted_ari(labels.tolist(), kinds.tolist()), abs=1e-9)
    assert found["noise_share"] == pytest.approx(labels.tolist().count(-1) / len(labels))
    assert found["clusters_per_kind"] == len(set(labels.tolist()) - {-1}) / len(set(kinds.tolist()))


def test_neighbours_are_the_nearest_of_another_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_ROWS", 7)
    random = np.random.default_rng(0)
    points, scans = random.normal(size=(40, 3)), np.repeat(np.arange(20), 2)
    found = scores.nearest_neighbours(points, scans)
    for place in range(40):
        others = [other for other in range(40) if scans[other] != scans[place]]
        distances = [np.sqrt(((points[place] - points[other]) ** 2).sum()) for other in others]
        assert found.place[place] == others[int(np.argmin(distances))]
        assert found.distance[place] == pytest.approx(min(distances))


def test_purity_and_retrieval_by_hand() -> None:
    line = np.array([[0.0], [1.0], [2.1], [10.0], [11.5], [50.0]])
    kinds = np.array(["a", "a", "b", "b", "b", "c"])
    nearest = scores.nearest_neighbours(line, np.arange(6))
    assert nearest.place.tolist() == [1, 0, 1, 4, 3, 4]
    assert scores.purity(nearest, kinds) == pytest.approx(4 / 6)
    assert scores.retrieval(line, kinds) == pytest.approx(4 / 5)  # c is alone


def test_rare_recall_at_five_false_alarms_of_a_hundred() -> None:
    novelty, is_rare = np.concatenate([np.arange(100.0), [10.5, 95.5, 96.5, 200.0]]), np.arange(104) >= 100
    found = scores.rare_recall(novelty, is_rare)
    above = np.mean([[rare > common for common in novelty[:100]] for rare in novelty[100:]])
    assert found == {"rare_recall": 0.75, "rare_auc": pytest.approx(above)}
    assert np.isnan(scores.rare_recall(novelty, is_rare & False)["rare_auc"])


def test_linear_r2_is_of_scans_it_was_not_told() -> None:
    random = np.random.default_rng(0)
    scans = np.repeat(np.arange(60), 3)
    features = random.normal(size=(180, 4))
    noise = random.normal(size=180)
    of_scan = random.normal(size=60)[scans]
    wanted = pd.DataFrame(
        {
            "told": features @ [1.0, -2.0, 0.5, 0.0],
            "half": features @ [1.0, 0.0, 0.0, 0.0] + noise,
            "never": of_scan,
            "seldom": np.where(scans < 4, noise, np.nan),
        }
    )
    names = np.eye(60)[scans]  # which scan it is tells `never`, but of no other scan
    found = scores.linear_r2(features, wanted, scans)
    assert found["r2_told"] > 0.999
    assert found["r2_half"] == pytest.approx(0.5, abs=0.15)
    assert np.isnan(found["r2_seldom"])
    assert scores.linear_r2(names, wanted[["never"]], scans)["r2_never"] < 0.05


def test_numbers_that_are_missing_count_as_the_median() -> None:
    numbers = pd.DataFrame({"a": [1.0, np.nan, 3.0, 8.0], "b": [np.nan] * 4})
    expected = [[1, 0, 0, 1], [3, 0, 1, 1], [3, 0, 0, 1], [8, 0, 0, 1]]
    np.testing.assert_array_equal(scores.as_features(numbers), expected)


def table_of_views() -> tuple[np.ndarray, pd.DataFrame]:
    """Maps 2 apart from scan to scan, two q-bins 0.5 apart in each, and views moved by known distances."""
    rows, points = [], []
    for scan in range(10):
        for q_bin in range(2):
            place, at = len(rows), np.array([2.0 * scan, 0.5 * q_bin])
            moved = {WHOLE: [0.0], "noise": [0.2], "age": [-0.6, 0.8]}
            for view, shifts in moved.items():
                for shift in shifts:
                    rows.append({"scan": scan, "q_bin": q_bin, "view": view, "map": place})
                    points.append(at + [0, shift])
    return np.array(points), pd.DataFrame(rows)


def test_movements_are_in_distances_of_neighbours() -> None:
    found = scores.movements(*table_of_views())
    assert found == pytest.approx({"moves_q_bin": 0.25, "moves_noise": 0.1, "moves_age": 0.7})


def test_clusters_far_apart_are_stable() -> None:
    random = np.random.default_rng(0)
    kinds, scans = np.repeat(np.arange(3), 40), np.arange(120)
    points = random.normal(size=(120, 4)) + 100 * np.eye(3, 4)[kinds]
    labels = scores.clustered(points, scans)
    assert counted_ari(labels.tolist(), kinds.tolist()) == 1
    assert scores.subsample_stability(points, scans, labels, 0) == {"subsample_ari": 1, "growth_ari": 1}
    assert scores.stability([labels, kinds, kinds]) == 1
    assert np.isnan(scores.stability([labels]))


def truth_of(random: np.random.Generator, num_scans: int) -> pd.DataFrame:
    """Maps of three kinds, one in fifty of them rare, without views."""
    scan = np.repeat(np.arange(num_scans), 3)
    kind = np.array(["simple", "ageing", "switching"])[np.where(scan % 50 == 0, 2, scan % 2)]
    frames = np.full(len(scan), 100)
    tau = np.exp(random.uniform(np.log(0.05), 0, len(scan)))
    return pd.DataFrame(
        {
            "scan": scan, "q_bin": np.tile(np.arange(3), num_scans), "kind": kind, "view": WHOLE,
            "map": np.arange(len(scan)), "is_rare": kind == "switching", "frames": frames, "frame_time": 0.01,
            "tau": tau, "half_decay": tau / 3, "contrast": np.exp(random.uniform(-3, -1, len(scan))),
            "kww_exponent": random.uniform(0.5, 2, len(scan)), "ageing_rate": np.where(kind == "ageing", 2.0, 0.0),
            "signal_to_noise": 50.0,
        }
    )  # fmt: skip


def test_the_truth_itself_scores_full_marks_and_chance_none() -> None:
    random = np.random.default_rng(0)
    truth = truth_of(random, 100)
    kinds = truth["kind"].to_numpy(dtype=str)
    names = np.array(["simple", "ageing", "switching"])
    best = 10 * (kinds[:, None] == names) + 0.05 * random.normal(size=(len(truth), 3))
    numbers = pd.DataFrame({"log_tau": np.log(truth["tau"]), "log_contrast": np.log(truth["contrast"])})
    found, labels = scores.score(best, truth, numbers=numbers, novelty=truth["is_rare"].to_numpy(float))
    assert len(labels) == len(truth)
    assert found["ari"] > 0.9
    assert found["clear_ari"] == found["ari"]
    assert found["purity"] == 1
    assert found["rare_recall"] == 1
    assert found["r2_ageing_rate"] > 0.95
    assert found["numbers_r2_log_tau"] > 0.99 > 0.1 > found["r2_log_tau"]
    assert found["numbers_r2_log_contrast"] > 0.99
    chance, _ = scores.score(random.normal(size=(len(truth), 3)), truth)
    assert abs(chance["ari"]) < 0.1
    assert chance["purity"] == pytest.approx(0.5, abs=0.1)


def test_targets_leave_out_what_nothing_could_tell() -> None:
    truth = truth_of(np.random.default_rng(0), 10)
    truth.loc[0, "tau"] = 11 * 100 * 0.01
    wanted = scores.targets(truth)
    assert np.isnan(wanted["log_tau"][0])
    np.testing.assert_allclose(wanted["log_tau"][1:], np.log(truth["tau"][1:] / 1.0))
    assert wanted["log_tau_stationary"].notna().tolist() == [
        at > 0 and kind == "simple" for at, kind in enumerate(truth["kind"])
    ]
