"""Parquet tables of the archive. Apart from `archive`, so that workers that need none do not load pandas."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ainerd_hpc.errors import ProductError, is_of_the_system
from ainerd_hpc.publishing import publishing

_DIGEST_KEY = b"ainerd_hpc_digest"


def write_table(path: Path, table: pd.DataFrame, digest: str = "") -> None:
    """Publish a Parquet table that records `digest`, with a checksum for each of its pages."""
    with publishing(path) as temporary, temporary.open("wb") as file:
        _write(table, digest, file, write_page_checksum=True)


def table_bytes(table: pd.DataFrame) -> bytes:
    """A table as the bytes of a file: the same content, the same bytes."""
    file = io.BytesIO()
    _write(table, "", file)
    return file.getvalue()


def _write(table: pd.DataFrame, digest: str, file: BinaryIO, **options: Any) -> None:
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _DIGEST_KEY: digest.encode()})
    pq.write_table(arrow, file, compression="zstd", **options)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table of the archive.

    Raises
    ------
    ProductError
        The table is missing or damaged.
    """
    try:
        table: pd.DataFrame = pq.read_table(path, columns=columns, page_checksum_verification=True).to_pandas()
    except Exception as error:  # what is damaged can say anything
        if is_of_the_system(error):
            raise
        raise ProductError(path, f"cannot read the table: {' '.join(str(error).split())}") from None
    return table


def table_digest(path: Path) -> str:
    """The digest that a table records; empty when it has none or cannot be read."""
    try:
        return str((pq.read_schema(path).metadata or {}).get(_DIGEST_KEY, b"").decode())
    except (OSError, ValueError, pa.ArrowException):
        return ""
