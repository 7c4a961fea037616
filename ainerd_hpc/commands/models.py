"""The verb `models`: the models of an archive, what they make of its maps, and whether they know such maps."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ainerd_hpc.commands.options import add_archive, add_debug, archive_of
from ainerd_hpc.errors import reading_product
from ainerd_hpc.models.registry import NETWORKS

if TYPE_CHECKING:
    import pandas as pd

    from ainerd_hpc.archive.layout import Archive

_DRIFTED = 0.05
"""Share of maps beyond what a model knows above which it is said: five times what it is by definition."""
_COLUMNS = ("model", "variant", "made", "maps", "clusters", "noise", "error", "unknown", "as the first")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the archive."""
    add_archive(parser)
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Print a table of the models, and a line for each that meets maps that it does not know."""
    from ainerd_hpc.console import print_rows, tell

    archive = archive_of(options)
    names = sorted(path.parent.name for path in (archive.root / "models").glob("*/model.json"))
    if not names:
        tell(f"{archive.root}: no model yet; run the stages until train. Networks: {', '.join(NETWORKS)}")
        return
    clusters = {name: _clusters(archive, name) for name in names}
    records = {name: _record(archive.model_folder(name) / "model.json") for name in names}
    rows = [(*_facts(name, records[name], clusters[name]), _likeness(clusters, name)) for name in names]
    print_rows("Models", _COLUMNS, rows)
    for name in names:
        share = _unknown_share(records[name]["variant"], clusters[name])
        if share is not None and share > _DRIFTED:
            tell(
                f"{name}: {share:.0%} of the maps are unlike what it was trained on, where 1 % would be by chance: look"
            )


def _record(path: Path) -> dict[str, Any]:
    """What is written about a model.

    Raises
    ------
    ProductError
        It is damaged.
    """
    with reading_product(path, "cannot read what is written about the model"):
        record: dict[str, Any] = json.loads(path.read_bytes())
    return record


def _clusters(archive: Archive, name: str) -> pd.DataFrame | None:
    from ainerd_hpc.archive.tables import read_table

    path = archive.clusters_path(name)
    return read_table(path, ["map_id", "label", "reconstruction_l1"]) if path.exists() else None


def _facts(name: str, record: dict[str, Any], maps: pd.DataFrame | None) -> tuple[str, ...]:
    """A row of the table, without its end; a dash where the model has not been used yet."""
    epochs = len(record.get("history", ()))
    made = f"trained, {epochs} epochs" if epochs else f"given, {record.get('weights_from', '?')}"
    if maps is None:
        return name, record["variant"], made, *["-"] * 5
    unknown = _unknown_share(record["variant"], maps)
    figures = f"{len(maps)}", f"{maps.loc[maps['label'] >= 0, 'label'].nunique()}", f"{(maps['label'] < 0).mean():.1%}"
    error = f"{maps['reconstruction_l1'].median():.4f}"
    return name, record["variant"], made, *figures, error, "-" if unknown is None else f"{unknown:.1%}"


def _unknown_share(variant: str, maps: pd.DataFrame | None) -> float | None:
    """Share of the maps whose reconstruction is worse than that of 99 % of unseen maps of its own training."""
    known = NETWORKS[variant].known_error if variant in NETWORKS else None
    return None if maps is None or known is None else float((maps["reconstruction_l1"] > known).mean())


def _likeness(clusters: dict[str, pd.DataFrame | None], name: str) -> str:
    """Adjusted Rand index between the labels of this model and those of the first one, over the maps of both."""
    first, this = next(iter(clusters.values())), clusters[name]
    if first is None or this is None:
        return "-"
    from sklearn.metrics import adjusted_rand_score

    both = first.merge(this, on="map_id")
    return f"{adjusted_rand_score(both['label_x'], both['label_y']):.2f}"
