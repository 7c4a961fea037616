"""Parquet tables of the archive. Apart from `archive`, so that workers that need none do not load pandas."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.publishing import publishing

_DIGEST_KEY = b"ainerd_hpc_digest"


def write_table(path: Path, table: pd.DataFrame, digest: str = "") -> None:
    """Publish a Parquet table that records `digest`."""
    with publishing(path) as temporary, temporary.open("wb") as file:
        _write(table, digest, file)


def table_bytes(table: pd.DataFrame, digest: str = "") -> bytes:
    """The bytes of the file that `write_table` would publish."""
    file = io.BytesIO()
    _write(table, digest, file)
    return file.getvalue()


def _write(table: pd.DataFrame, digest: str, file: BinaryIO) -> None:
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _DIGEST_KEY: digest.encode()})
    pq.write_table(arrow, file, compression="zstd")


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table of the archive.

    Raises
    ------
    ArchiveError
        The table is missing or damaged.
    """
    try:
        table: pd.DataFrame = pq.read_table(path, columns=columns).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(f"{path}: cannot read the table: {error}; run the stage that makes it again") from None
    return table


def table_digest(path: Path) -> str:
    """The digest that a table records; empty when it has none or cannot be read."""
    try:
        return str((pq.read_schema(path).metadata or {}).get(_DIGEST_KEY, b"").decode())
    except (OSError, ValueError, pa.ArrowException):
        return ""
