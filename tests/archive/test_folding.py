"""Journals that were folded and kept say the same as journals that are read again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.archive import folding
from ainerd_hpc.archive.folding import Fold
from ainerd_hpc.archive.journal import Journal, record
from ainerd_hpc.types import Task

STAGES = ("ingest", "maps")
EVENTS = st.tuples(
    st.sampled_from(["begun", "failed", "interrupted", "done"]),
    st.sampled_from(STAGES),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["one", "two"]),
    st.sampled_from([None, 10, 20]),
)


@pytest.fixture(autouse=True)
def _always_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short journals are, their fold is kept."""
    monkeypatch.setattr(folding, "_WORTH_KEEPING", 1)


def _write(root: Path, events: list[tuple[str, str, str, str, int | None]]) -> None:
    for event, stage, key, digest, size in events:
        record(root, event, stage, key, digest, **({} if size is None else {"bytes_written": size}))  # type: ignore[arg-type]


def _said(root: Path) -> list[object]:
    """All that a journal answers."""
    journal, sizes = Journal(root), np.array([10, 20, 30])
    said: list[object] = [journal.num_damaged]
    for stage in STAGES:
        for key in "abcd":
            said += [journal.digest_of(stage, key), journal.was_done(stage, key)]
            for digest in ("one", "two"):
                said.append(journal.num_kills(stage, Task(key, digest, 0, 0, 0)))
                keys, digests = np.array([key] * 3), np.array([digest] * 3)
                said.append(journal.are_done(stage, keys, digests, sizes).tolist())
    return said


@settings(max_examples=25)
@given(before=st.lists(EVENTS, max_size=12), between=st.lists(EVENTS, max_size=6), after=st.lists(EVENTS, max_size=6))
def test_a_fold_that_is_kept_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, str, str, str, int | None]],
    between: list[tuple[str, str, str, str, int | None]],
    after: list[tuple[str, str, str, str, int | None]],
) -> None:
    root = tmp_path_factory.mktemp("archive")
    for events in (before, between, after):
        _write(root, events)
        expected = _said(root)
        Journal(root).compact()
        assert _said(root) == expected
    (root / "journal" / "folded.parquet").unlink(missing_ok=True)
    assert _said(root) == expected


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive with a journal that is kept folded."""
    _write(tmp_path, [("done", "maps", key, "one", 10) for key in "abc"])
    Journal(tmp_path).compact()
    return tmp_path


def _journal(root: Path) -> Path:
    (path,) = (root / "journal").glob("*.jsonl")
    return path


def test_what_is_kept_is_not_read_again(root: Path) -> None:
    path = _journal(root)
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))  # says nothing any more
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert Journal(root).digest_of("maps", "b") == "one"


def test_a_journal_that_was_changed_is_read_again(root: Path) -> None:
    path = _journal(root)
    os.utime(path, ns=(1, 1))
    path.write_text(path.read_text().replace('"one"', '"two"'))
    assert Journal(root).digest_of("maps", "b") == "two"


def test_a_journal_that_is_gone_says_nothing(root: Path) -> None:
    _journal(root).unlink()
    assert not Journal(root).was_done("maps", "b")


@pytest.mark.parametrize("place", [0.3, 0.999])
def test_a_damaged_fold_is_made_anew(root: Path, place: float) -> None:
    path = root / "journal" / "folded.parquet"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 255
    path.write_bytes(content)
    assert Journal(root).digest_of("maps", "b") == "one"


def test_a_torn_line_is_taken_up_when_it_is_whole(root: Path) -> None:
    path = _journal(root)
    with path.open("a") as file:
        file.write('{"event": "done", "stage": "maps", "key": "d", "digest": "one"')
    Journal(root).compact()
    assert not Journal(root).was_done("maps", "d")
    with path.open("a") as file:
        file.write(', "bytes_written": 10}\n')
    assert Journal(root).was_done("maps", "d")
    assert Fold(root / "journal").num_damaged == 0
