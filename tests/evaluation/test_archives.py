"""Archives of known truth: C2 is what the truth says, views differ in one thing, a seed gives the same bytes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.evaluation import archives
from ainerd_hpc.evaluation.archives import KnownArchive, draw_archive
from ainerd_hpc.evaluation.kinds import KINDS, UNSEEN
from ainerd_hpc.evaluation.photons import poisson
from ainerd_hpc.evaluation.speckle import half_decay


@pytest.fixture(scope="module")
def archive() -> KnownArchive:
    return draw_archive(5, 18, num_viewed=18)


def expected_c2(row: pd.Series) -> np.ndarray:
    """1 + |g1|^2 / modes."""
    times = (np.arange(row["frames"]) + 0.5) / row["frames"]
    g1 = KINDS[row["kind"]].form(times, row["tau"] / row["frame_time"] / row["frames"], row["numbers"])
    return 1 + np.abs(g1) ** 2 * row["contrast"]


def views(archive: KnownArchive, place: int) -> dict[str, list[int]]:
    rows = archive.truth[(archive.truth["map"] == place)]
    return {view: group.index.tolist() for view, group in rows.groupby("view")}


def maps(archive: KnownArchive) -> list[int]:
    return np.flatnonzero(archive.is_map).tolist()


def test_c2_is_one_plus_g1_squared_within_its_noise(archive: KnownArchive) -> None:
    """The mean of two realisations is off by what half of their difference says, and by no more."""
    ratios, shifts = [], []
    for place in maps(archive):
        first, second = (archive.c2[at].astype(float) for at in (place, views(archive, place)["noise"][0]))
        pairs = np.triu_indices(len(first), 1)
        error = ((first + second) / 2 - expected_c2(archive.truth.loc[place]))[pairs]
        noise = ((first - second) / 2)[pairs]
        ratios.append(np.nanmean(error**2) / np.nanmean(noise**2))
        shifts.append(np.nanmean(error) / archive.truth["contrast"][place])
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert np.abs(np.median(shifts)) < 0.05


def test_views_differ_in_what_they_say(archive: KnownArchive) -> None:
    truth, c2 = archive.truth, archive.c2
    for place in maps(archive):
        found, frames = views(archive, place), int(truth["frames"][place])
        assert {view: len(rows) for view, rows in found.items()} == {
            "whole": 1, "noise": 1, "thinned": 1, "age": 2, "resampled": 1, "contrast": 1,
        }  # fmt: skip
        assert truth["photons"][found["thinned"][0]] == truth["photons"][place] / 2
        assert truth["contrast"][found["contrast"][0]] == pytest.approx(truth["contrast"][place] / 2)
        assert len(c2[found["resampled"][0]]) == frames // 2
        length = round(0.8 * frames)
        np.testing.assert_array_equal(c2[found["age"][0]], c2[place][:length, :length])
        np.testing.assert_array_equal(c2[found["age"][1]], c2[place][-length:, -length:])


def test_thinning_keeps_the_speckle_of_a_map(archive: KnownArchive) -> None:
    """Half of the photons are like their map; other speckle of the same truth is not."""
    truth = archive.truth
    bright = [place for place in maps(archive) if truth["photons"][place] > 1]
    assert bright

    def noise(place: int) -> np.ndarray:
        values = archive.c2[place] - expected_c2(truth.loc[place])
        return np.nan_to_num(values[np.triu_indices(len(values), 1)])

    for place in bright:
        found = views(archive, place)
        alike, other = (np.corrcoef(noise(place), noise(found[view][0]))[0, 1] for view in ("thinned", "noise"))
        assert alike > 0.3 > 0.15 > abs(other)


def test_truth_lies_in_the_stated_ranges() -> None:
    drawn = [archives._draw_scan(0, scan, kind, 3.0)[0] for scan, kind in enumerate([*KINDS] * 20)]
    for scan in drawn:
        low, high = KINDS[scan[0].kind].tau
        for q_bin in scan:
            assert low * (1 - 1e-9) <= q_bin.tau / q_bin.num_frames <= high * (1 + 1e-9)
            assert q_bin.tau >= 0.7 * (1 - 1e-9)
            assert 0.003 <= q_bin.photons <= 5
            assert 300 <= q_bin.pixels <= 30_000
            assert 2 <= q_bin.modes <= 50
            assert q_bin.signal_to_noise >= 3
        assert scan[0].tau > scan[1].tau > scan[2].tau
    plain = [q_bin for scan in drawn for q_bin in scan]
    assert {q_bin.num_frames for q_bin in plain} == set(archives.NUM_FRAMES)
    with_bad = np.mean([scan[0].bad_share > 0 for scan in drawn])
    assert with_bad == pytest.approx(1 / 3, abs=0.08)


def test_signal_to_noise_is_that_of_photons_alone() -> None:
    """Against the scatter of C2 of Poisson counts without speckle."""
    q_bin = archives._draw_scan(3, 0, "compressed", 3.0)[0][0]
    random = np.random.default_rng(0)
    size = (q_bin.num_frames, 2000)
    means = np.full(size, q_bin.photons, np.float32)
    c2 = archives.two_time(poisson(means, random))
    noise = np.diagonal(c2, 1).std() * np.sqrt(2000 / q_bin.pixels / (q_bin.num_frames - 1))
    signal = (np.abs(np.diagonal(q_bin.g1, 1)) ** 2).mean() / q_bin.modes
    assert q_bin.signal_to_noise == pytest.approx(signal / noise, rel=0.25)


def test_half_decay_of_a_kww_is_that_of_its_formula() -> None:
    q_bin = archives.QBin(0, 0, "compressed", 40.0, 1.0, 256, 2, 1.0, 1000, 0.0, {"kww_exponent": 1.7})
    assert half_decay(q_bin.g1) == pytest.approx(40 * (np.log(2) / 2) ** (1 / 1.7), rel=0.01)
    still = archives.QBin(0, 0, "frozen", 4e4, 1.0, 256, 2, 1.0, 1000, 0.0, {"kww_exponent": 1.0})
    assert np.isnan(half_decay(still.g1))


def test_ageing_rate_is_the_change_of_the_local_tau() -> None:
    """From g1 itself, near the ends: the lag at which it has lost a hundredth."""
    fine = np.linspace(0, 1, 4001)
    for kind in ("ageing", "rejuvenating", "slowing_at_once", "quickening_at_once"):
        numbers = KINDS[kind].draw(np.random.default_rng(1), 0.3) | {"kww_exponent": 1.0}
        start, end = (np.abs(KINDS[kind].form(part, 0.3, numbers)[0, 1]) for part in (fine[:2], fine[-2:]))
        assert archives.ageing_rate(kind, numbers) == pytest.approx(np.log(np.log(start) / np.log(end)), abs=0.02)


def test_rare_kinds_have_their_share() -> None:
    kinds = archives._kinds_of_scans(np.random.default_rng(0), 500, None, UNSEEN)
    counts = pd.Series(kinds).value_counts()
    assert all(counts[kind] == 10 for kind in UNSEEN)
    assert len(counts) == 13
    assert counts[~counts.index.isin(UNSEEN)].between(46, 48).all()


def test_lost_frames_are_rows_and_columns_of_nan(archive: KnownArchive) -> None:
    num_lost = [np.isnan(np.diagonal(archive.c2[place])).sum() for place in maps(archive)]
    assert any(num_lost)
    for place, lost in zip(maps(archive), num_lost, strict=True):
        c2 = archive.c2[place]
        assert np.isnan(c2).sum() == len(c2) ** 2 - (len(c2) - lost) ** 2
        assert lost == 0 or archive.truth["bad_share"][place] > 0


def test_a_seed_gives_the_same_bytes_in_any_number_of_processes() -> None:
    one, two, other = (draw_archive(seed, 6, num_viewed=1, processes=n) for seed, n in ((7, 1), (7, 2), (8, 1)))
    pd.testing.assert_frame_equal(one.truth, two.truth)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one.c2, two.c2, strict=True))
    assert not one.truth["photons"].equals(other.truth["photons"])


def test_an_archive_without_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="signal to noise"):
        draw_archive(0, 3, least_signal_to_noise=1e9)


@pytest.mark.parametrize("mean", [0.003, 0.4, 7.0, 29.0, 60.0])
def test_photons_are_poisson(mean: float) -> None:
    counts = poisson(np.full((500, 400), mean, np.float32), np.random.default_rng(0))
    error = np.sqrt(mean / counts.size)
    assert counts.mean() == pytest.approx(mean, abs=5 * error)
    assert counts.var() == pytest.approx(mean, rel=0.05, abs=5 * error)
    assert (counts == 0).mean() == pytest.approx(np.exp(-mean), abs=0.005)
