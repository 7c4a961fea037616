"""Kinds in words: a word where the numbers of a cluster's maps carry it, and none where they do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.correlation.windows import fit_window
from ainerd_hpc.evaluation import archives
from ainerd_hpc.evaluation.kinds import KINDS, UNSEEN
from ainerd_hpc.kernels.cells import cells
from ainerd_hpc.kernels.traits import Traits, traits
from ainerd_hpc.report.words import NOTHING, kinds_in_words, phrase

ALL_WORDS = {
    "still", "echoes", "fringes", "returns", "intermittent", "slowing down", "quickening", "suddenly", "gradually",
    "static share", "two steps", "stretched", "simple", "compressed",
}  # fmt: skip
RIGHT: dict[str, tuple[set[str], set[str]]] = {
    "stretched": ({"stretched"}, set()),
    "simple": ({"simple"}, set()),
    "compressed": ({"compressed"}, set()),
    "frozen": ({"still"}, set()),
    "partly_static": ({"static share"}, set()),
    "two_step": ({"two steps"}, {"stretched"}),
    "power_law": (set(), {"stretched"}),
    "ageing": ({"slowing down"}, {"gradually"}),
    "rejuvenating": ({"quickening"}, {"gradually"}),
    "slowing_at_once": ({"slowing down", "suddenly"}, set()),
    "quickening_at_once": ({"quickening", "suddenly"}, set()),
    "avalanches": ({"intermittent"}, set()),
    "bursts": ({"intermittent"}, set()),
    "echoes": ({"returns"}, {"echoes"}),
    "fringes": ({"fringes"}, {"static share", "returns"}),
    "drifting_flow": (set(), {"fringes", "returns", "static share"}),
    "freezing": ({"slowing down"}, {"suddenly", "static share"}),
    "periodic_rate": (set(), {"intermittent"}),
    "reversal": (set(), {"returns", "echoes", "compressed"}),
    "switching": (set(), {"returns", "echoes", "intermittent"}),
}
"""Words that have to be said of a kind, and words that may be; all others would be wrong. g1 of a reversal falls as
exp(-(t / tau)^2), drifting flow has fringes and a static share, a rate that rises again and again comes in bursts."""


def words_of(text: str) -> set[str]:
    found = {word for word in ALL_WORDS if word in text}
    return found | ({"returns"} if "echoes" in found else set())


def table(num: int = 60, seed: int = 0, **columns: object) -> pd.DataFrame:
    """Maps of num / 3 scans in cluster 0, with these columns."""
    scans = [f"scan{number // 3}" for number in range(num)]
    return pd.DataFrame({"label": 0, "scan_id": scans, **columns})


def around(centre: float, spread: float, num: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(centre, spread, num)


STEADY = {"ageing": around(0, 0.05), "unevenness": np.full(60, 0.03), "return_height": np.zeros(60)}


def test_a_word_needs_its_number_and_its_error() -> None:
    sure = table(**STEADY, kww_exponent=around(1.7, 0.1), kww_exponent_err=0.05)
    assert phrase(sure) == f"compressed decay, exponent {sure['kww_exponent'].median():.2g}"
    assert phrase(sure.assign(kww_exponent_err=1.0)) == NOTHING
    assert phrase(sure.assign(kww_exponent_err=np.nan)) == NOTHING
    assert phrase(sure.assign(kww_exponent=np.nan)) == NOTHING
    assert phrase(table(**STEADY)) == NOTHING
    assert phrase(sure.iloc[:4]) == NOTHING


def test_maps_that_do_not_agree_carry_no_word() -> None:
    ageing = np.where(np.arange(60) // 3 % 2, 1.5, -1.5)
    assert phrase(table(ageing=ageing, ageing_err=0.05)) == NOTHING
    assert phrase(table(ageing=around(0, 0.2), ageing_err=0.05)) == NOTHING
    assert phrase(table(ageing=np.abs(ageing), ageing_err=0.05)) == "slowing down 4.5x within a window"
    few = table(9, ageing=np.array([1.5] * 7 + [-1.5] * 2), ageing_err=0.05)
    assert phrase(few) == NOTHING  # of three scans one that says otherwise is too many
    some = table(ageing=np.where(np.arange(60) < 30, np.nan, 1.5), ageing_err=0.05)
    assert phrase(some) == NOTHING  # half of the maps cannot say


def test_shapes_of_g2_are_not_told_where_ages_differ() -> None:
    shape = {"static_share": around(0.4, 0.02), "static_share_err": 0.01}
    assert phrase(table(**STEADY, **shape)) == "static share 0.4 of g2"
    assert phrase(table(**STEADY | {"unevenness": np.full(60, 0.3)}, **shape)) == NOTHING
    assert "static" not in phrase(table(**STEADY | {"ageing": np.full(60, 1.2)}, **shape))


def test_a_period_is_told_where_the_maps_share_it() -> None:
    echoes = table(return_height=0.6, return_height_err=0.05, unevenness=0.3, return_lag=around(0.2, 0.01))
    assert phrase(echoes) == "echoes of period 0.2 s"
    assert phrase(echoes.assign(return_lag=np.geomspace(0.01, 1, 60))) == "echoes"
    assert phrase(echoes.assign(unevenness=0.03)) == "fringes of period 0.2 s"
    assert phrase(echoes.assign(unevenness=0.13)) == "correlation returns"


@pytest.mark.parametrize(
    ("power", "text"), [(1.0, "half decay ~ q^-1.0"), (2.0, "half decay ~ q^-2.0"), (0.0, NOTHING)]
)
def test_the_law_of_q_is_that_within_the_scans(power: float, text: str) -> None:
    q = np.tile([0.01, 0.014, 0.02], 20)
    speed = np.repeat(np.random.default_rng(0).lognormal(0, 2, 20), 3)
    half_decay = speed * (q / 0.01) ** -power * np.exp(around(0, 0.02))
    known = {"half_decay_err": 0.02, "frame_time": 1e-6, "age_start": 0}
    maps = table(q=q, half_decay=half_decay, **known)
    assert phrase(maps) == text
    assert phrase(maps.assign(frame_time=1.0, half_decay=half_decay / half_decay.max())) == NOTHING  # not resolved
    mixed = np.where(np.arange(60) // 3 % 2, 1.0, 2.0)
    assert phrase(maps.assign(half_decay=speed * q**-mixed)) == NOTHING


def test_each_cluster_has_its_words_and_noise_has_none() -> None:
    both = pd.concat([table(**STEADY, kww_exponent=around(centre, 0.05)) for centre in (0.6, 1.0, 1.8)])
    both["label"] = np.repeat([-1, 0, 1], 60)
    texts = kinds_in_words(both)
    assert texts.keys() == {0, 1}
    assert texts[0] == "simple exponential decay"
    assert words_of(texts[1]) == {"compressed"}


# ---- the yardstick


def drawn(kind: str, seed: int, num_maps: int, least: float) -> pd.DataFrame:
    """The numbers of the maps of a cluster of one kind; of two steps half are left out, whose first cannot be seen."""
    num_maps *= 2 if kind == "two_step" else 1
    archive = archives.draw_archive(seed, num_maps, num_viewed=0, common=[kind], rare=(), least_signal_to_noise=least)
    rows = []
    for c2, (_, truth) in zip(archive.c2, archive.truth.iterrows(), strict=True):
        found = cells(c2)
        fit = fit_window(c2, 1.0)
        numbers = {"kww_exponent": fit.kww_exponent, "kww_exponent_err": fit.kww_exponent_err}
        rows.append({"label": 0, "scan_id": truth["scan"], **numbers, **traits(c2, found)._asdict()})
    return pd.DataFrame(rows)[[_shows(truth) for _, truth in archive.truth.iterrows()]]


def _shows(truth: pd.Series) -> bool:
    """Two steps are one where the first is over within half a frame."""
    ratio = truth["numbers"].get("ratio", 0.0)
    return ratio == 0 or truth["tau"] / np.sqrt(ratio) > 0.55 * truth["frame_time"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives with fewer pixels and frames, which are drawn faster."""
    monkeypatch.setattr(archives, "MOST_VALUES", 300_000)
    monkeypatch.setattr(archives, "NUM_FRAMES", (64, 128, 256))


def wrong(kind: str, text: str) -> set[str]:
    must, may = RIGHT[kind]
    return words_of(text) - must - may


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["compressed", "slowing_at_once"])
def test_some_kinds_are_told_by_their_words(kind: str) -> None:
    text = phrase(drawn(kind, 11, 36, 30.0))
    assert RIGHT[kind][0] <= words_of(text)
    assert not wrong(kind, text)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_every_kind_is_told_by_its_words() -> None:
    """The words are right for all of the 17 common kinds, and wrong for none."""
    texts = {kind: phrase(drawn(kind, 15, 60, 30.0)) for kind in KINDS}
    common = [kind for kind in KINDS if kind not in UNSEEN]
    untold = {kind: texts[kind] for kind in common if not RIGHT[kind][0] <= words_of(texts[kind])}
    assert not {kind: text for kind, text in texts.items() if wrong(kind, text)}
    assert not untold


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_faint_scans_are_told_by_no_wrong_word() -> None:
    texts = {kind: phrase(drawn(kind, 16, 45, 3.0)) for kind in KINDS}
    assert not {kind: text for kind, text in texts.items() if wrong(kind, text)}


def test_noise_alone_says_nothing() -> None:
    random = np.random.default_rng(0)
    rows = []
    for number in range(30):
        c2 = 1 + random.normal(0, 0.05, (64, 64)).astype(np.float32)
        rows.append({"label": 0, "scan_id": number, **traits(c2, cells(c2))._asdict()})
    maps = pd.DataFrame(rows)
    assert maps[list(Traits._fields)].isna().all(axis=1).mean() > 0.9
    assert phrase(maps) == NOTHING
