"""Parquet tables of the archive. Apart from `archive`, so that workers that need none do not load pandas."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ainerd_hpc.errors import reading_product
from ainerd_hpc.publishing import publishing

DIGEST_KEY = b"ainerd_hpc_digest"
"""Name of the digest in the metadata of a table."""
ROWS = 2**16
"""Rows of a row group: what is read at a time of a table that may be larger than memory."""
_UNREADABLE = "cannot read the table: {}"
_Block = TypeVar("_Block", pd.DataFrame, NDArray[Any])


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
    arrow = _arrow(table, digest)
    pq.write_table(arrow, file, row_group_size=ROWS, compression="zstd", **options)


def _arrow(table: pd.DataFrame, digest: str) -> pa.Table:
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    return arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), DIGEST_KEY: digest.encode()})


@contextmanager
def writing_table(path: Path, digest: str) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Publish a table that comes in blocks, of `ROWS` rows each but the last, when the block ends well."""
    with publishing(path) as temporary, temporary.open("wb") as file:
        writers: list[pq.ParquetWriter] = []

        def append(block: pd.DataFrame) -> None:
            arrow = _arrow(block, digest)
            if not writers:
                writers.append(pq.ParquetWriter(file, arrow.schema, compression="zstd", write_page_checksum=True))
            writers[0].write_table(arrow.cast(writers[0].schema), row_group_size=ROWS)

        yield append
        for writer in writers:
            writer.close()


def read_blocks(path: Path, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
    """Blocks of a table, of `ROWS` rows each but the last; a table without rows is one block.

    Raises
    ------
    ProductError
        The table is missing or damaged.
    """
    with reading_product(path, _UNREADABLE), pq.ParquetFile(path, page_checksum_verification=True) as file:
        if not file.metadata.num_rows:
            yield file.read(columns).to_pandas()
        for batch in file.iter_batches(ROWS, columns=columns):
            yield pa.Table.from_batches([batch]).to_pandas()


def read_rows(path: Path, rows: np.ndarray, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Rows of a table, given in order; memory is that of these rows and of one block."""
    found = [block.iloc[inside] for block, inside in within_blocks(read_blocks(path, columns), rows)]
    return pd.concat(found, ignore_index=True)


def within_blocks(blocks: Iterable[_Block], rows: NDArray[np.int64]) -> Iterator[tuple[_Block, NDArray[np.int64]]]:
    """Each block with the places in it of those of some rows, given in order, that it holds."""
    start = 0
    for block in blocks:
        first, last = np.searchsorted(rows, (start, start + len(block)))
        yield block, rows[first:last] - start
        start += len(block)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table of the archive.

    Raises
    ------
    ProductError
        The table is missing or damaged.
    """
    with reading_product(path, _UNREADABLE):
        table: pd.DataFrame = pq.read_table(path, columns=columns, page_checksum_verification=True).to_pandas()
    return table


def write_arrow(path: Path, table: pa.Table, digest: str) -> None:
    """Publish a table as it is, without the way through pandas."""
    with publishing(path) as temporary, temporary.open("wb") as file:
        named = table.replace_schema_metadata({DIGEST_KEY: digest.encode()})
        pq.write_table(named, file, row_group_size=ROWS, compression="zstd", write_page_checksum=True)


def read_arrow(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table of the archive as it is stored.

    Raises
    ------
    ProductError
        It is missing or damaged.
    """
    with reading_product(path, _UNREADABLE):
        return pq.read_table(path, columns=columns, page_checksum_verification=True)


def read_of(path: Path, column: str, value: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows of a table with this text in a column; of one that is sorted by it, little else is read.

    Raises
    ------
    ProductError
        The table is missing or damaged.
    """
    with reading_product(path, _UNREADABLE):
        options: dict[str, Any] = {"filters": [(column, "==", value)], "page_checksum_verification": True}
        table: pd.DataFrame = pq.read_table(path, columns=columns, **options).to_pandas()
    return table


def read_vectors(path: Path, column: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """A column of vectors of one length, (n, d): all of them, or those of these ascending rows; no others are kept.

    Raises
    ------
    ProductError
        The table is missing or damaged.
    """
    parts, start = [np.zeros((0, 0), np.float32)], 0
    with reading_product(path, _UNREADABLE), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(columns=[column]):
            found = batch.column(0)
            if rows is not None:
                inside = rows[(rows >= start) & (rows < start + len(batch))] - start
                found = found.take(pa.array(inside))
            start += len(batch)
            if len(found):
                parts.append(found.flatten().to_numpy(zero_copy_only=False).reshape(len(found), -1))
    return np.concatenate(parts[1:] or parts).astype(np.float32, copy=False)


def read_codes(path: Path, column: str) -> NDArray[np.int32]:
    """A column of texts as numbers from 0, one for each text, (n,): 4 bytes a row, whatever the texts are.

    Raises
    ------
    ProductError
        The table is missing or damaged.
    """
    with reading_product(path, _UNREADABLE):
        options: dict[str, Any] = {"read_dictionary": [column], "page_checksum_verification": True}
        found = pq.read_table(path, columns=[column], **options)[column]
    return np.asarray(found.unify_dictionaries().combine_chunks().indices.to_numpy(), dtype=np.int32)


def check_table(path: Path) -> None:
    """Read a Parquet table of the archive through, and compare its checksums.

    Raises
    ------
    ProductError
        It is missing or damaged.
    """
    with reading_product(path, _UNREADABLE), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for _ in file.iter_batches():
            pass


def table_digest(path: Path) -> str:
    """The digest that a table records; empty when it has none or cannot be read."""
    try:
        return str((pq.read_schema(path).metadata or {}).get(DIGEST_KEY, b"").decode())
    except (OSError, ValueError, pa.ArrowException):
        return ""
