"""The verb `similar`: the maps of an archive that are nearest to a scan, a map, or a file that is not in it."""

from __future__ import annotations

import argparse
import difflib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table, read_vectors
from ainerd_hpc.commands.options import add_config, config_of, count
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.kernels.nearest import Scales, nearest

if TYPE_CHECKING:
    from ainerd_hpc.config import RunConfig

_NUMBERS = ["half_decay", "contrast"]
"""What counts with --scales, as logarithms."""
_READ = ["map_id", "scan_id", "q_bin", "age_start", "age_stop", "q", "half_decay", "tau", "contrast"]
_SHOWN = ["distance", "map_id", "q", "half_decay", "tau", "contrast", "label", "nearest_to", "kind"]


class Maps(NamedTuple):
    """Maps of an archive with their latents."""

    table: pd.DataFrame
    latents: NDArray[np.float32]

    def only(self, rows: NDArray[np.bool_]) -> Maps:
        """Some of them."""
        return Maps(self.table[rows], self.latents[rows])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is compared, the archive, and how."""
    what = "scan_id or map_id of the archive, or a file that need not be in it"
    parser.add_argument("what", metavar="SCAN|MAP_ID|FILE", help=what)
    add_config(parser)
    parser.add_argument("--num", type=count, default=10, metavar="N", help="rows (10)")
    scales = "half decay and contrast count, too, each as much as how it moves"
    parser.add_argument("--scales", action="store_true", help=scales)


def run(options: argparse.Namespace) -> None:
    """Print the nearest maps, one a row."""
    from ainerd_hpc.console import tell

    found = look_for(options.what, config_of(options), options.num, options.scales)
    tell(found.to_string(index=False, float_format="{:.4g}".format))


def look_for(what: str, config: RunConfig, num: int, by_scales: bool = False) -> pd.DataFrame:
    """The maps of an archive that are nearest to a scan or a map of it, or to a file, nearest first.

    Parameters
    ----------
    what : str
        scan_id, map_id or path.
    num : int
        Rows, at most.
    by_scales : bool
        Whether half decay and contrast count, too.

    Raises
    ------
    AinerdError
        There is no such thing, or the archive has no clusters.
    """
    known = known_maps(Archive(config.archive), config.model.name)
    is_asked = _places(known.table, what)
    asked = known.only(is_asked) if is_asked.any() else embedded(_file(known.table, what), config)
    asked = asked.only(np.asarray(np.isfinite(asked.latents).all(axis=1)))
    if asked.table.empty:
        raise ConfigError(f"{what}: expected latents that are finite, found none; ask for another scan")
    scales = Scales.of(known.latents, _numbers(known.table)) if by_scales else None
    return similar(known.only(~is_asked), asked, num, scales, a_scan_once=len(asked.table) > 1)[_SHOWN]


def similar(
    known: Maps, asked: Maps, num: int, scales: Scales | None = None, a_scan_once: bool = False
) -> pd.DataFrame:
    """The maps that are nearest to any of those asked for, nearest first.

    Parameters
    ----------
    known, asked : Maps
        Where it is looked, and for what.
    num : int
        Rows, at most.
    scales : Scales, optional
        With them half decay and contrast count, too.
    a_scan_once : bool
        Whether only the best map of each scan is given.

    Returns
    -------
    DataFrame
        Rows of `known`, with `distance` and `nearest_to`, the asked map that each is nearest to.
    """
    points, wanted = known.latents, asked.latents
    if scales:
        points, wanted = (scales.coordinates(one.latents, _numbers(one.table)) for one in (known, asked))
    distance, place = nearest(points, wanted)
    table = known.table.assign(distance=distance, nearest_to=asked.table["map_id"].to_numpy()[place])
    table = table[np.isfinite(table["distance"])]
    if a_scan_once:
        table = table.loc[table.groupby("scan_id")["distance"].idxmin()]
    found: pd.DataFrame = table.nsmallest(num, "distance")
    return found


def embedded(path: Path, config: RunConfig) -> Maps:
    """A file through the line of an archive, until its latents, with the model of that archive; nothing of it is kept.

    Raises
    ------
    AinerdError
        The file holds no scan, or its scan cannot be processed.
    """
    from ainerd_hpc.config import ExecutorConfig, one_form
    from ainerd_hpc.pipeline import Run

    path, weights = one_form(path), Archive(config.archive).weights_path(config.model.name)
    only = f"source == {json.dumps(str(path), ensure_ascii=False)}"
    with tempfile.TemporaryDirectory(prefix="ainerd-hpc-similar-") as folder:
        changes = {
            "archive": Path(folder),
            "source": config.source.model_copy(update={"path": path.parent, "select": only}),
            "simulate": None,
            "model": config.model.model_copy(update={"weights": weights.absolute()}),
            "executor": ExecutorConfig(kind="inline"),
        }
        Run(config.model_copy(update=changes), until="embed").execute()
        archive = Archive(Path(folder))
        return _with_latents(read_table(archive.map_index_path, _READ), archive, config.model.name)


def known_maps(archive: Archive, name: str) -> Maps:
    """The maps of an archive as its cluster stage left them.

    Raises
    ------
    ConfigError
        It has left none yet.
    """
    path = archive.clusters_path(name)
    if not path.exists():
        raise ConfigError(
            f"{path}: expected the clusters of an archive, found none; run `ainerd-hpc run --until cluster`"
        )
    return _with_latents(read_table(path, [*_READ, "label", "kind"]), archive, name)


def _with_latents(table: pd.DataFrame, archive: Archive, name: str) -> Maps:
    path = archive.embedding_path(name)
    place = pd.Index(read_table(path, ["map_id"])["map_id"]).get_indexer(pd.Index(table["map_id"]))
    return Maps(table, read_vectors(path, "latent")[place])


def _places(table: pd.DataFrame, what: str) -> NDArray[np.bool_]:
    """Which maps are those of a scan, or the map, of this name."""
    of_scan = (table["scan_id"] == what).to_numpy()
    found: NDArray[np.bool_] = of_scan if of_scan.any() else (table["map_id"] == what).to_numpy()
    return found


def _file(table: pd.DataFrame, what: str) -> Path:
    path = Path(what).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(what, table["scan_id"].unique(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"a scan of it is {table['scan_id'].iloc[0]}"
        raise ConfigError(f"{what}: expected a scan_id, a map_id or a file, found none of them; {hint}")
    return path


def _numbers(table: pd.DataFrame) -> NDArray[np.float64]:
    """Logarithms of half decay and contrast, (n, 2); NaN where they are not known."""
    values = table[_NUMBERS].to_numpy(np.float64)
    return np.log(np.where(values > 0, values, np.nan))
