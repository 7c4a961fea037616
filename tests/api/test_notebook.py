"""The notebook of examples/: it runs from top to bottom, and its answer is the one that the tables give."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table
from tests.support.places import ROOT

NOTEBOOK = ROOT / "examples" / "first_look.ipynb"


def printed(notebook: Any) -> str:
    """What its cells print."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def test_it_is_kept_with_its_output_and_names_no_machine() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] == number for number, cell in enumerate(code, start=1))
    assert all(cell["outputs"] for cell in code[1:])
    assert "20 of 40 scans are under stress, 3 of them slow down" in printed(notebook)
    assert "/home/" not in NOTEBOOK.read_text(encoding="utf-8")


def test_it_runs_on_another_archive(whole_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "archive").symlink_to(whole_archive)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    maps = read_table(Archive(whole_archive).clusters_path("default")).query("age_stop - age_start == 64")
    scans = maps.groupby("scan_id")[["stress", "ageing"]].median().query("stress > 5")
    num_slower = int((scans["ageing"] > np.log(1.5)).sum())
    assert f"{len(scans)} of 6 scans are under stress, {num_slower} of them slow down" in printed(notebook)
