"""A fit of clusters as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.cluster_fit import Fit, read_fit, write_fit
from ainerd_hpc.archive.tables import write_table
from ainerd_hpc.errors import ProductError
from ainerd_hpc.kernels.clustering.density import group
from ainerd_hpc.kernels.clustering.fitting import anchored
from ainerd_hpc.kernels.clustering.placing import Clustered, Placing, renumbered


def fitted(in_latents: bool) -> Clustered:
    """Two kinds, grouped by their latents or by three coordinates of them."""
    random = np.random.default_rng(0)
    latents = (9 * np.eye(2, 6)[np.arange(80) % 2] + random.normal(size=(80, 6))).astype(np.float32)
    points = latents if in_latents else latents[:, :3].astype(np.float64)
    return anchored(latents, points, latents[:, :2].astype(np.float64), np.ones(80), group(points, 8, 4), 4)


def test_a_fit_that_is_read_says_the_same(tmp_path: Path) -> None:
    """The main clusters by coordinates of UMAP, float64; rare kinds by latents, float32."""
    main, kinds = fitted(False), renumbered(fitted(True), np.array([5, 3]))
    trust = pd.DataFrame({"stability": [1.0, 0.5, np.nan, np.nan], "persistence": 0.1, "separation": "class"})
    fit = Fit(main, kinds, np.array([f"map_{row}" for row in range(80)]), trust.set_axis([0, 1, 3, 5]), 12.5)
    write_fit(tmp_path / "fit.parquet", fit, "digest")
    found = read_fit(tmp_path / "fit.parquet")
    assert found.map_ids.tolist() == fit.map_ids.tolist()
    pd.testing.assert_frame_equal(found.trust, fit.trust, check_names=False)
    new = main.latents + np.float32(0.3)
    assert found.rare is not None
    for before, after in ((main, found.main), (kinds, found.rare)):
        assert (after.points is after.latents) == (before.points is before.latents)
        one, other = (Placing(fit).place(new) for fit in (before, after))
        np.testing.assert_array_equal(one.picture, other.picture)
        for values, expected in zip(one.belonging, other.belonging, strict=True):
            np.testing.assert_array_equal(values, expected)


def test_another_table_is_no_fit(tmp_path: Path) -> None:
    write_table(tmp_path / "fit.parquet", pd.DataFrame({"map_id": ["a"], "label": [0]}))
    with pytest.raises(ProductError, match="expected a fit of clusters, found a table of"):
        read_fit(tmp_path / "fit.parquet")
