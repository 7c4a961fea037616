"""What cannot be opened is told, and is taken up again as soon as it can be, though no date has changed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ainerd_hpc.config import SourceConfig
from ainerd_hpc.sources.discovery import Discovery, discover
from ainerd_hpc.sources.walk import FileRecord, from_row
from tests.sources.test_catalog_tree import WITHOUT_CAPABILITIES, small
from tests.support.archive_tree import KINDS, Tree

SHUT_EACH = """
import base64, json, os, sys
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.sources.discovery import discover
from ainerd_hpc.sources.walk import looking, to_row, walk
tries = []
with looking():
    for given, path in json.loads(sys.argv[1]):
        source = SourceConfig(**given)
        mode = os.stat(path).st_mode
        os.chmod(path, 0)
        try:
            found = discover(source)
            records, reasons = found.records, [problem.reason for problem in found.problems]
        except ConfigError as error:
            records, reasons = walk(source.roots, {}, source.dataset), [str(error)]
        os.chmod(path, mode)
        rows = [to_row(record) for record in records]
        tries.append([reasons, [[base64.b64encode(row["path"]).decode(), row["record"]] for row in rows]])
print(json.dumps(tries))
"""
"""Looks at folders of scans while one path below each has mode 0."""


def _scans(found: Discovery) -> list[str]:
    return [repr(scan) for scan in found.scans]


def _records(rows: list[list[str]]) -> Mapping[Path, FileRecord]:
    records = [from_row(base64.b64decode(path), record) for path, record in rows]
    return {record.path: record for record in records}


def test_whatever_cannot_be_opened_is_told_and_then_taken_up(tmp_path: Path) -> None:
    """Each file and each folder of a scan of each format in turn."""
    letters = {kind.format: letter for letter, kind in KINDS.items()}.values()
    tree = small(tmp_path, *((letter, letter, f"{letter}0001") for letter in letters))
    sources = {letter: _source_of(tree, letter) for letter in letters}
    places = [(one, path) for one in sources.values() for path in sorted(Path(one["path"]).rglob("*"))]
    needed = ("*.zarr/counts", "counts/.zarray", "counts/zarr.json")  # nobody looks at chunks before they are read
    places = [one for one in places if ".zarr/" not in str(one[1]) or any(map(one[1].match, needed))]
    words = [(source, str(path)) for source, path in places]
    command = [*WITHOUT_CAPABILITIES, sys.executable, "-c", SHUT_EACH, json.dumps(words)]
    tries = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    wholes = {source["path"]: _scans(discover(SourceConfig(**source))) for source in sources.values()}
    for (source, path), (reasons, rows) in zip(places, tries, strict=True):
        assert "Permission denied" in " ".join(reasons), (path, reasons)
        assert _scans(discover(SourceConfig(**source), _records(rows))) == wholes[source["path"]], path


def _source_of(tree: Tree, letter: str) -> dict[str, Any]:
    qmap = tree.qmap_path(letter)
    return tree.source | {"path": str(tree.root / letter), "partition": {"*": str(qmap)} if qmap else {}}
