"""The benchmark of embeddings at its smallest, and what its baselines compute."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ainerd_hpc.evaluation.archives import draw_archive
from ainerd_hpc.models.weights import initial_model, save_weights
from benchmarks import dynamics, embeddings, measured
from benchmarks.embeddings import Embedded


def kww_c2(tau: float, size: int = 256, exponent: float = 1.0, contrast: float = 0.2) -> np.ndarray:
    """C2 of a stationary KWW decay without noise, tau in frames."""
    lag = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    return 1 + contrast * np.exp(-2 * (lag / tau) ** exponent)


def test_one_command_makes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, results = tmp_path / "weights.safetensors", tmp_path / "results.json"
    save_weights(weights, initial_model("ainerd2024", 0, [np.ones((256, 256), np.float32)]).state_dict())
    options = ["--maps", "18", "--seeds", "1", "--weights", str(weights), "--epochs", "1", "--json", str(results)]
    dynamics.main([*options, "--signal-to-noise", "30"])
    said = capsys.readouterr()
    head, _, *rows = said.out.partition("\n\n")[0].splitlines()
    names = list(embeddings.embeddings(weights, 1))
    assert head.strip("| ").split(" | ") == names
    assert rows[0].startswith("| ARI of clusters and kinds | ")
    assert "bnl-c2-2021: not in the folder of the data, left out" in said.out
    assert "18 maps" in said.err
    found = json.loads(results.read_text(encoding="utf-8"))["archives"]
    assert list(found) == names
    lines = {key.removeprefix("numbers_") for name in names for key in found[name][0]}
    measured_alone = {"retrieval", "retrieval_scales", "friedel_offset", "friedel_ratio", "shear_purity", "tau_factor"}
    assert lines == set(dynamics.LINES) - measured_alone


def test_a_good_embedding_is_told_from_a_poor_one() -> None:
    """Kinds that anyone can tell apart, by an embedding that sees them and by one that sees the brightness alone."""
    archive = draw_archive(0, 36, num_viewed=0, common=["frozen", "ageing"], rare=[], least_signal_to_noise=100)

    def contrast(c2: embeddings.Maps) -> Embedded:
        return Embedded(np.array([[np.nanmean(np.diagonal(one, 1))] for one in c2]))

    cells = partial(embeddings.components, embeddings.lag_age_cells)
    good, poor = (dynamics.on_archive(make, archive, 0) for make in (cells, lambda *_: contrast))
    assert good["purity"] > 0.95 > 0.8 > poor["purity"]
    assert good["ari"] > poor["ari"]
    assert np.isnan(good["rare_recall"])


def test_cells_in_units_of_the_decay_do_not_see_tau() -> None:
    fast, slow = (kww_c2(tau, exponent=1.5) for tau in (24.0, 48.0))
    assert embeddings.log_half_decay(fast) == pytest.approx(np.log(24 * (np.log(2) / 2) ** (1 / 1.5)), abs=0.15)
    (plain, _), (aligned, numbers) = (of([fast, slow]) for of in (embeddings.lag_age_cells, embeddings.aligned_cells))
    apart = [np.abs(values[0] - values[1]).max() for values in (plain, aligned)]
    assert apart[0] > 0.3 > 0.15 > apart[1]
    assert np.diff(numbers["log_half_decay"])[0] == pytest.approx(np.log(2), abs=0.1)


def test_cells_are_means_over_pairs_of_finite_entries() -> None:
    c2 = np.random.default_rng(0).normal(1, 1, (32, 32))
    c2[5], c2[:, 5] = np.nan, np.nan
    found = embeddings.cells(c2, np.log(32), embeddings.IN_WINDOWS)
    edges = np.exp(np.linspace(*embeddings.IN_WINDOWS, embeddings.NUM_LAGS + 1)) * 32
    for row, column in ((14, 3), (13, 4), (12, 0)):
        inside = [
            c2[t1, t2] - 1
            for t1 in range(32)
            for t2 in range(t1 + 1, 32)
            if edges[row] <= t2 - t1 < edges[row + 1] and int((t1 + t2 + 1) / 64 * 8) == column and 5 not in (t1, t2)
        ]
        expected = np.mean(inside) if inside else None
        assert expected is None or found[row, column] == pytest.approx(expected)


def test_fits_tell_tau_contrast_and_exponent() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.002, (128, 128))
    found = embeddings.fits([kww_c2(20.0, 128, 1.4) + noise + noise.T, np.full((64, 64), np.nan)])
    expected = [np.log(20 / 128), np.log(0.2), 1.4]
    np.testing.assert_allclose(found.loc[0], expected, atol=0.03)
    assert found.loc[1].isna().all()


def test_scattering_energies_do_not_see_where_a_texture_lies() -> None:
    image = np.random.default_rng(0).normal(0.3, 0.1, (64, 64)).astype(np.float32)
    one, moved = (embeddings._energies(values) for values in (image, np.roll(image, (5, 11), axis=(0, 1))))
    np.testing.assert_allclose(one, moved, atol=1e-4)
    assert len(one) == 1 + 4 * 8 + 6 * 64
    stripes = np.broadcast_to(0.3 + 0.1 * np.cos(0.75 * np.pi * np.arange(64)), (64, 64)).astype(np.float32)
    assert embeddings._energies(stripes)[1:9].argmax() == 0  # the finest scale, waves along x


def test_windows_are_retrieved_in_measurements_that_were_not_seen(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 4)
    level = random.permutation(40)[group]
    c2 = (1 + level + 0.01 * random.normal(size=(4, 50, 160)).mean(axis=1)[0])[:, None, None] * np.ones((1, 50, 50))
    is_target = np.tile([False, False, False, True], 40)
    np.savez(tmp_path / "maps.npz", c2=c2.astype(np.float16), group=group, measurement=group // 2, is_target=is_target)
    seen: list[int] = []

    def make(maps: embeddings.Maps, scans: list[int], seed: int) -> embeddings.Embed:
        seen.extend(scans)
        return lambda maps: Embedded(np.array([[one.mean()] for one in maps]))

    assert measured.groups(make, tmp_path) == {"retrieval": 1.0}
    assert len(set(seen)) == 16  # of 20 measurements
    assert len(seen) == 16 * 2 * 3
