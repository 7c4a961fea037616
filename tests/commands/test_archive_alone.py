"""An archive keeps the config that it was made with: its folder is all that a verb needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.run_record import keep_config
from ainerd_hpc.archive.standing import Standing, write_standing
from ainerd_hpc.cli import main
from ainerd_hpc.loading import load
from tests.test_docs import flags_of

Said = pytest.CaptureFixture[str]


@pytest.fixture
def archive(simulated_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> Path:
    """Made up to ingest, in a folder from which the source has a relative path."""
    monkeypatch.chdir(simulated_source.parent)
    config = tmp_path / "mine.yaml"
    config.write_text(f"archive: {tmp_path}/archive\nsource: {{path: {simulated_source.name}}}\n", encoding="utf-8")
    words = ["run", str(config), "--until", "ingest", "--executor", "inline", "--set", "maps.windows=[256]"]
    assert main(words) == 0
    capsys.readouterr()
    monkeypatch.chdir("/")
    return tmp_path / "archive"


def _said(capsys: Said, *words: str | Path) -> str:
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def _maps_planned(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("ingest", "maps"))]


def test_it_keeps_all_values_with_absolute_paths(archive: Path, simulated_source: Path) -> None:
    kept = load(Archive(archive).config_path)
    assert (kept.archive, kept.source.path) == (archive, simulated_source)
    assert (kept.maps.windows, kept.executor.kind) == ((256,), "inline")


@pytest.mark.parametrize("how", [[], ["--archive"]])
def test_its_folder_alone_will_do(how: list[str], archive: Path, tmp_path: Path, capsys: Said) -> None:
    place = [*how, archive]
    assert "ingest        6      0" in _said(capsys, "status", *place)
    assert "done" in _said(capsys, "plan", *place)
    assert "6 of 6 scans" in _said(capsys, "catalog", "show", "--archive", archive)
    assert "6 files" in _said(capsys, "catalog", "--archive", archive)
    assert main(["cancel", *map(str, place)]) == 1
    assert "expected a submission, found none" in capsys.readouterr().err
    _said(capsys, "run", *place, "--until", "correlate")
    assert "correlate     6      0" in _said(capsys, "status", *place)
    _said(capsys, "export", *place, "--format", "csv", "--output", tmp_path / "tables")
    assert len(list((tmp_path / "tables").iterdir())) == 18


def test_a_moved_archive_is_where_it_is(archive: Path, capsys: Said) -> None:
    moved = archive.rename(archive.with_name("moved"))
    _said(capsys, "run", moved, "--until", "ingest")
    assert load(Archive(moved).config_path).archive == moved
    assert not archive.exists()


def test_where_both_are_given_config_says_all_but_the_place(archive: Path, tmp_path: Path, capsys: Said) -> None:
    other = tmp_path / "other"
    assert "ingest        0      6" in _said(capsys, "status", archive, "--archive", other)
    _said(capsys, "run", archive, "--archive", other, "--until", "ingest")
    assert load(Archive(other).config_path).maps.windows == (256,)


def test_a_source_begins_with_the_defaults(archive: Path, simulated_source: Path, capsys: Said) -> None:
    words = ["run", "--source", simulated_source, "--archive", archive, "--executor", "inline", "--until", "ingest"]
    _said(capsys, *words)
    assert load(Archive(archive).config_path).maps.windows != (256,)


def test_a_job_leaves_the_config_of_its_submission(
    archive: Path, simulated_source: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("AINERD_STEP", "ingest")
    _said(capsys, "ingest", "--source", simulated_source, "--archive", archive, "--set", "executor.kind=local")
    assert load(Archive(archive).config_path).executor.kind == "inline"


def test_a_catalog_is_where_an_archive_begins(simulated_source: Path, tmp_path: Path, capsys: Said) -> None:
    _said(capsys, "catalog", simulated_source, "--archive", tmp_path / "new")
    assert "ingest        0      6" in _said(capsys, "status", tmp_path / "new")


def test_status_says_how_far_a_training_is(archive: Path, capsys: Said) -> None:
    folder = Archive(archive).checkpoints_folder("default")
    assert "train:" not in _said(capsys, "status", archive)
    write_standing(folder, Standing(3, 40, 12, 80, 0.01234, 0.02, 754.0))
    said = _said(capsys, "status", archive)
    assert "\ntrain: 2 of 40 epochs; epoch 3, step 12 of 80, L1 0.0123, unseen 0.0200, 12.6 min left (told " in said
    (folder / "standing.json").write_text("torn", encoding="utf-8")
    assert "train:" not in _said(capsys, "status", archive)


def test_a_folder_that_is_no_archive(tmp_path: Path, capsys: Said) -> None:
    assert main(["status", str(tmp_path)]) == 2
    found = capsys.readouterr().err
    assert found == (
        f"ainerd-hpc: {tmp_path}: expected an archive that keeps its config, found no {tmp_path}/runs/config.yaml; "
        "give the config file\n"
    )
    assert main(["status", "--archive", str(tmp_path)]) == 2
    assert "'source' is missing" in capsys.readouterr().err


def test_what_is_submitted_is_cancelled_and_asked_about_by_the_same_words(tmp_path: Path, capsys: Said) -> None:
    assert flags_of("cancel") == flags_of("status") - {"--watch"} == flags_of("plan") - {"--estimate", "--assume"}
    assert flags_of("submit") - flags_of("cancel") == {"--dry-run", "--yes", "--from", "--until", "--retry-failed"}
    words = ["--source", str(tmp_path), "--set", f"archive={tmp_path}/a", "--executor", "elastic", "--site", "my.yaml"]
    assert main(["cancel", "--source", str(tmp_path), *words[2:]]) == 2
    assert "found neither" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--set", "train.epochs=3", "--set", "train.epochs=4"],
            "'train.epochs' once, found train.epochs=3 and train.epochs=4",
        ),
        (["--set", "train.epochs=3", "--set", "train={}"], "'train.epochs' once, found train.epochs=3 and train={}"),
        (["--set", "train={}", "--set", "train.epochs=3"], "'train.epochs' once, found train={} and train.epochs=3"),
        (["--set", "archive=a", "--archive", "b"], "'archive' once, found archive=a and archive=\"b\""),
    ],
)
def test_a_key_is_set_once(words: list[str], told: str, tmp_path: Path, capsys: Said) -> None:
    assert main(["plan", "--source", str(tmp_path), *words]) == 2
    assert capsys.readouterr().err == f"ainerd-hpc: arguments: expected {told}; keep one of them\n"


def test_elastic_workers_have_the_site_that_was_submitted(archive: Path, tmp_path: Path, capsys: Said) -> None:
    config, site = tmp_path / "mine.yaml", tmp_path / "site.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "executor: {kind: elastic}\n", encoding="utf-8")
    site.write_text("system: slurm\nnodes: {cores: 2, memory: 8 GB}\n", encoding="utf-8")
    words = ["--source", str(load(Archive(archive).config_path).source.folder)]
    assert main(["status", str(config), *words]) == 2
    assert "executor.kind: elastic: expected executor.site, found none; give a site file" in capsys.readouterr().err
    assert "ingest        6      0" in _said(capsys, "status", config, *words, "--site", site)
    keep_config(load(config, [f"executor.site={site}", f"source.path={words[1]}"]))
    assert "ingest        6      0" in _said(capsys, "status", config, *words)
    assert main(["cancel", str(config), *words]) == 1
    assert "expected a submission, found none" in capsys.readouterr().err
