"""The index of all maps: rows of scans that have not changed are those of the index before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table, table_digest, write_table
from ainerd_hpc.digests import fingerprint, stamps
from ainerd_hpc.errors import ProductError

_MADE_OF = ["scan_id", "digest", "stamp"]


def gather(
    archive: Archive, scan_ids: NDArray[Any], digests: NDArray[Any], read: Callable[[str], pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of all scans in their order, and of what they were made.

    Parameters
    ----------
    archive : Archive
    scan_ids : (n,) texts
    digests : (n,) texts
        Of the maps of each scan.
    read : callable
        Gives the rows of one scan, with its id, from its product. It is asked where the product is another one than
        that of the rows before: by its digest, its size or its date.

    Returns
    -------
    rows : DataFrame
    sources : DataFrame
        For `note`.
    """
    sources = pd.DataFrame({"scan_id": scan_ids, "digest": digests, "stamp": stamps(map(archive.maps_path, scan_ids))})
    known, index = _before(archive)
    columns = sources.merge(known, how="left", on=_MADE_OF, validate="one_to_one")["columns"]
    is_fresh = columns.isna().to_numpy()
    fresh = [read(scan_id) for scan_id in sources["scan_id"][is_fresh]]
    sources["columns"] = columns.astype(object)
    sources.loc[is_fresh, "columns"] = [described(rows) for rows in fresh]
    parts = list(_in_turn(sources, index[index["scan_id"].isin(sources["scan_id"][~is_fresh])], fresh))
    return _in_order(pd.concat(parts, ignore_index=True), sources["scan_id"]), sources


def note(archive: Archive, sources: pd.DataFrame) -> None:
    """Note of what the index was made that is published now."""
    write_table(_note_path(archive), sources, fingerprint([archive.map_index_path]))


def _before(archive: Archive) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the index before was made of, and itself; without rows where it is not as it was noted."""
    try:
        if table_digest(_note_path(archive)) == fingerprint([archive.map_index_path]):
            return read_table(_note_path(archive)), read_table(archive.map_index_path).drop(columns="map_id")
    except ProductError:
        pass
    return pd.DataFrame(columns=[*_MADE_OF, "columns"], dtype="str"), pd.DataFrame(columns=["scan_id"], dtype="str")


def _note_path(archive: Archive) -> Path:
    return archive.root / "journal" / "map_index.parquet"


def described(rows: pd.DataFrame) -> str:
    """Columns with their types: scans differ in what is known of them."""
    return json.dumps({name: str(dtype) for name, dtype in rows.dtypes.items()})


def _in_turn(sources: pd.DataFrame, kept: pd.DataFrame, fresh: Iterable[pd.DataFrame]) -> Iterable[pd.DataFrame]:
    """The rows of all scans with the same columns together, as they were read, in the order of the first of these."""
    by_columns: dict[str, list[pd.DataFrame]] = {}
    for rows in fresh:
        by_columns.setdefault(described(rows), []).append(rows)
    for columns, group in sources.groupby("columns", sort=False):
        known = json.loads(str(columns))
        mine = kept[kept["scan_id"].isin(group["scan_id"])]
        if len(mine):
            yield mine[list(known)].astype(known)
        yield from by_columns.get(str(columns), [])


def _in_order(rows: pd.DataFrame, scan_ids: pd.Series) -> pd.DataFrame:
    """The rows in the order of the scans."""
    place = pd.Index(scan_ids).get_indexer(pd.Index(rows["scan_id"]))
    found: pd.DataFrame = rows.iloc[place.argsort(kind="stable")].reset_index(drop=True)
    return found
