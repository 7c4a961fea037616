"""How far a training is, as it is told and read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ainerd_hpc.archive.standing import Standing, read_standing, standing_text, write_standing
from ainerd_hpc.stages import train

FIRST = Standing(1, 40, 1, 80, 0.25, None, 7200.0)
LATER = Standing(3, 40, 12, 80, 0.01234, 0.02, 754.0)


@pytest.mark.parametrize("standing", [FIRST, LATER])
def test_it_is_read_as_it_was_told(standing: Standing, tmp_path: Path) -> None:
    assert read_standing(tmp_path) is None
    write_standing(tmp_path, standing)
    assert read_standing(tmp_path) == standing


def test_words(tmp_path: Path) -> None:
    assert standing_text(tmp_path) == ""
    write_standing(tmp_path, FIRST)
    assert standing_text(tmp_path).startswith(
        "train: 0 of 40 epochs; epoch 1, step 1 of 80, L1 0.2500, 2.0 h left (told "
    )
    assert str(LATER._replace(maps_per_second=812.4)).endswith(", unseen 0.0200, 812 maps/s, 12.6 min left")
    assert str(LATER) == "epoch 3, step 12 of 80, L1 0.0123, unseen 0.0200, 12.6 min left"


@pytest.mark.parametrize("text", ["", "torn", "{}", "[1, 2]", '{"epoch": 1}'])
def test_what_is_no_standing_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "standing.json").write_text(text, encoding="utf-8")
    assert read_standing(tmp_path) is None


def test_between_epochs_what_is_new_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_LOOK", 0.01)
    told = list[tuple[str, int]]()
    write_standing(tmp_path, FIRST)  # by an earlier process
    with train._told_between_epochs(tmp_path, lambda note, by=1: told.append((note, by))):
        time.sleep(0.1)
        write_standing(tmp_path, LATER)
        deadline = time.monotonic() + 20
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
    assert told == [(str(LATER), 0)]
