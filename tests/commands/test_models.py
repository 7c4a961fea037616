"""The verb `models`, on archives whose tables are written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import write_table
from ainerd_hpc.cli import main
from ainerd_hpc.models.registry import NETWORKS

Said = pytest.CaptureFixture[str]
KNOWN = NETWORKS["lag_age"].known_error or 0.0


def _add(archive: Archive, name: str, record: dict, labels: list[int], error: float = 0.0) -> None:
    archive.model_folder(name).mkdir(parents=True)
    (archive.model_folder(name) / "model.json").write_text(json.dumps(record))
    ids = [f"a:0:{i}-{i + 1}" for i in range(len(labels))]
    errors = np.full(len(labels), 0.5 * KNOWN)
    errors[:2] = error
    write_table(
        archive.clusters_path(name), pd.DataFrame({"map_id": ids, "label": labels, "reconstruction_l1": errors}), "d"
    )


def _rows(archive: Archive, capsys: Said) -> dict[str, str]:
    assert main(["models", "--archive", str(archive.root)]) == 0
    said = capsys.readouterr().out
    return {line.split()[0].rstrip(":"): " ".join(line.split()) for line in said.splitlines() if line.strip()}


def test_models_are_listed_with_what_they_make_of_the_maps(tmp_path: Path, capsys: Said) -> None:
    archive = Archive(tmp_path)
    _add(archive, "a", {"variant": "lag_age", "weights_from": "w.safetensors"}, [0] * 5 + [1] * 4 + [-1])
    _add(archive, "b", {"variant": "ainerd2024", "history": [{}, {}]}, [1] * 5 + [0] * 4 + [-1])
    rows = _rows(archive, capsys)
    assert rows["a"].startswith("a lag_age given, w.safetensors 10 2 10.0%")
    assert rows["a"].endswith("0.0% 1.00")
    assert rows["b"].startswith("b ainerd2024 trained, 2 epochs 10 2 10.0%")
    assert rows["b"].endswith("- 1.00"), "clusters are the same whatever their numbers; what it knows is not known"


def test_maps_that_a_model_does_not_know_are_told(tmp_path: Path, capsys: Said) -> None:
    archive = Archive(tmp_path)
    _add(archive, "a", {"variant": "lag_age", "weights_from": "w"}, [0] * 10, error=2 * KNOWN)
    assert main(["models", str(tmp_path)]) == 0
    assert "a: 20% of the maps are unlike what it was trained on" in capsys.readouterr().out


def test_an_archive_without_models_says_so(tmp_path: Path, capsys: Said) -> None:
    assert main(["models", "--archive", str(tmp_path)]) == 0
    assert "no model yet" in capsys.readouterr().out


def test_a_damaged_record_is_named(tmp_path: Path, capsys: Said) -> None:
    archive = Archive(tmp_path)
    _add(archive, "a", {"variant": "lag_age"}, [0] * 10)
    path = archive.model_folder("a") / "model.json"
    path.write_bytes(b"{")
    assert main(["models", str(tmp_path)]) == 1
    assert f"{path}: cannot read what is written about the model" in capsys.readouterr().err
