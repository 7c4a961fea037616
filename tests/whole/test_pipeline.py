"""Whole runs on real files and processes: faults, kills, executors, plans."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.config import RunConfig
from ainerd_hpc.errors import ArchiveError, ConfigError, PlanError, QuarantinedError
from ainerd_hpc.pipeline import Run
from ainerd_hpc.planning import check, plan
from tests.conftest import SMALL, digests

MakeConfig = Callable[..., RunConfig]
COMMAND = [sys.executable, "-m", "ainerd_hpc.cli"]


@pytest.fixture(scope="session")
def settings(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file for whole runs of the small simulated source; the archive is given on the command line."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    data = {
        "archive": "nowhere",
        "source": {"path": str(simulated_source)},
        "maps": {"windows": ["full", 32]},
        "model": {"variant": "ainerd2024"},
        "train": {"epochs": 2, "batch_size": 8},
        "embed": {"maps_per_task": 12},
        "cluster": {"min_cluster_size": 3, "min_samples": 2},
        "executor": {"kind": "local", "workers": 2, "memory": "4 GB"},
    }
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def run_command(settings: Path, archive: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "run", str(settings), "--archive", str(archive), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def undisturbed(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a whole run with Dask processes that nothing went wrong in."""
    archive = tmp_path_factory.mktemp("undisturbed") / "archive"
    result = run_command(settings, archive)
    assert result.returncode == 0, result.stdout + result.stderr
    return archive


def test_a_whole_run_leaves_the_stated_archive(undisturbed: Path) -> None:
    files = {path.split("/")[0] for path in digests(undisturbed)}
    assert files == {
        "catalog.parquet", "sample_log.parquet", "frames", "partitions", "correlation", "maps", "models", "embedding",
        "clusters", "report", "quarantine.jsonl",
    }  # fmt: skip
    catalog = read_table(undisturbed / "catalog.parquet")
    stated = ["scan_id", "source", "format", "num_frames", "height", "width", "frame_time", "state", "digest"]
    assert set(stated) <= set(catalog)
    assert {"temperature", "stress"} <= set(catalog)
    assert catalog["state"].tolist() == ["ingested"] * 6
    clusters = read_table(undisturbed / "clusters" / "default.parquet")
    columns = "map_id scan_id q_bin q age_start age_stop label probability novelty x y tau contrast kww_exponent"
    assert {*columns.split(), "temperature", "stress"} <= set(clusters)
    assert len(clusters) == 6 * 2 * (1 + 2)
    assert clusters["map_id"].is_unique
    assert clusters["novelty"].between(0, 1).all()
    assert clusters["probability"].between(0, 1).all()
    assert set(read_table(undisturbed / "report" / "transitions.parquet")["q_bin"]) == {0, 1}
    assert set(read_table(undisturbed / "report" / "relations.parquet")["column"]) <= {"temperature", "stress"}


def test_sample_columns_are_the_log_at_the_time_of_the_map(undisturbed: Path, simulated_source: Path) -> None:
    clusters = read_table(undisturbed / "clusters" / "default.parquet")
    log = pd.read_csv(simulated_source / "sample_log.csv")
    seconds = (pd.to_datetime(log["time"], utc=True) - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    row = clusters.iloc[17]
    start = read_table(undisturbed / "catalog.parquet").set_index("scan_id")["start_time"][row["scan_id"]]
    middle = start + (row["age_start"] + row["age_stop"]) / 2 * SMALL.frame_time
    assert row["time"] == pytest.approx(middle, abs=1e-6)
    assert row["temperature"] == pytest.approx(np.interp(middle, seconds, log["temperature"]), abs=1e-9)


def test_the_run_record_says_who_what_and_how_long(undisturbed: Path) -> None:
    record = json.loads(next((undisturbed / "runs").glob("*.json")).read_text(encoding="utf-8"))
    assert record["state"] == "done"
    assert [stage["stage"] for stage in record["stages"]] == [
        "ingest", "correlate", "maps", "train", "embed", "cluster", "report",
    ]  # fmt: skip
    assert record["bytes_written"] == sum(stage["bytes_written"] for stage in record["stages"]) > 0
    assert {"user", "host", "command", "versions", "config", "config_digest"} <= set(record)


def test_inline_and_local_give_the_same_bytes(settings: Path, undisturbed: Path, tmp_path: Path) -> None:
    result = run_command(settings, tmp_path / "archive", "--executor", "inline")
    assert result.returncode == 0, result.stdout + result.stderr
    assert digests(tmp_path / "archive") == digests(undisturbed)


def test_a_second_run_makes_nothing(settings: Path, undisturbed: Path) -> None:
    before = digests(undisturbed)
    times = {path: (undisturbed / path).stat().st_mtime_ns for path in before if "quarantine" not in path}
    result = run_command(settings, undisturbed)
    assert result.returncode == 0
    assert digests(undisturbed) == before
    # The catalog and the log are written again; the work is not.
    stages = ("frames", "correlation", "maps", "models", "embedding", "clusters", "report")
    again = {path: (undisturbed / path).stat().st_mtime_ns for path in times if path.startswith(stages)}
    assert again == {path: modified for path, modified in times.items() if path.startswith(stages)}


KILL_AT = {
    "ingest": "frames/*.zip",
    "correlate": "correlation/*.zip",
    "maps": "maps/*.zip",
    "train": "models/default/checkpoints/last.ckpt",
    "model": "models/default/model.json",
    "embed": "embedding/default.parts/*.parquet",
    "cluster": "embedding/default.parquet",
    "report": "clusters/default.parquet",
}
EARLY, LATE_PRODUCTS = ("ingest", "correlate", "maps"), ("models", "embedding", "clusters", "report")
"""A kill before the maps are done is followed up to them; one after that begins with an archive that has them."""


@pytest.mark.slow
@pytest.mark.parametrize("stage", KILL_AT)
def test_a_killed_run_goes_on_and_ends_with_the_same_archive(
    stage: str, settings: Path, undisturbed: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    late = () if stage in EARLY else LATE_PRODUCTS
    if late:
        shutil.copytree(undisturbed, archive, ignore=shutil.ignore_patterns(*LATE_PRODUCTS))
    command = [*COMMAND, "run", str(settings), "--archive", str(archive)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 200
    while not any(archive.glob(KILL_AT[stage])):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    if stage == "maps":
        process.kill()  # only the client: its workers have to notice
    else:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    expected = {
        path: found for path, found in digests(undisturbed).items() if late or not path.startswith(LATE_PRODUCTS)
    }
    assert digests(archive) != expected
    result = run_command(settings, archive, *([] if late else ["--until", "maps"]))
    assert result.returncode == 0, result.stdout + result.stderr
    assert digests(archive) == expected


def _no_photons(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["entry/data/data"][...] = 0


def _nan_pixels(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        frames = file["entry/data/data"][...].astype(np.float32)
        del file["entry/data/data"]
        frames[5, :, ::4] = np.nan
        file["entry/data/data"] = frames


def _other_shape(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        frames = file["entry/data/data"][...]
        del file["entry/data/data"]
        file["entry/data/data"] = frames.transpose(0, 2, 1)


def _damaged_chunk(path: Path) -> None:
    with h5py.File(path, "r") as file:
        chunk = file["entry/data/data"].id.get_chunk_info(40)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)


DAMAGES = {
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), "ingest", "truncated"),
    "wrong shape": (_other_shape, "ingest", "expected frames of (48, 64)"),
    "damaged chunk": (_damaged_chunk, "ingest", "frames"),
    "NaN": (_nan_pixels, "correlate", "found negative, NaN or dead-pixel values on"),
    "no photons": (_no_photons, "correlate", "expected photons, found none in any frame"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_scan_is_quarantined_and_the_others_finish(
    damage: str, source: Path, make_config: MakeConfig, undisturbed: Path, tmp_path: Path
) -> None:
    break_file, stage, words = DAMAGES[damage]
    path = source / "sim_0003.h5"
    shutil.copy2(path, tmp_path / "good.h5")
    break_file(path)
    config = make_config(source)
    with pytest.raises(QuarantinedError, match="1 scans are in quarantine") as error:
        Run(config, until="maps").execute()
    assert error.value.exit_code == 3
    archive = config.archive
    problem = json.loads((archive / "quarantine.jsonl").read_text(encoding="utf-8"))
    assert (problem["scan_id"], problem["stage"]) == ("sim_0003", stage)
    assert words in problem["reason"]
    assert "sim_0003.h5" in problem["reason"]
    assert "\n" not in problem["reason"]
    catalog = read_table(archive / "catalog.parquet").set_index("scan_id")["state"]
    assert catalog["sim_0003"] == "quarantined"
    assert (catalog.drop("sim_0003") == "ingested").all()
    good = {path: value for path, value in digests(undisturbed).items() if path.startswith(("correlation", "maps/sim"))}
    done = {path: value for path, value in digests(archive).items() if path.startswith(("correlation", "maps/sim"))}
    assert done == {path: value for path, value in good.items() if "sim_0003" not in path}
    shutil.copy2(tmp_path / "good.h5", path)  # mended: the same command takes it up by itself
    Run(config, until="maps").execute()
    done = {path: value for path, value in digests(archive).items() if path.startswith(("correlation", "maps/sim"))}
    assert done == good
    assert (archive / "quarantine.jsonl").read_text(encoding="utf-8") == ""


def test_quarantined_scans_are_not_tried_again_unless_asked(source: Path, make_config: MakeConfig) -> None:
    _damaged_chunk(source / "sim_0002.h5")
    config = make_config(source)
    for retry, num_tasks in ((False, 6), (False, 0), (True, 1)):
        run = Run(config, until="ingest", retry_failed=retry)
        with pytest.raises(QuarantinedError):
            run.execute()
        journal = [
            line for path in (config.archive / "journal").glob("*.jsonl") for line in path.read_text().splitlines()
        ]
        assert sum(json.loads(line)["event"] == "done" for line in journal) == 5
        assert run.reports[0].num_quarantined == 1
        assert run.reports[0].num_done == (5 if num_tasks == 6 else 0)


def test_a_new_scan_costs_only_its_own_tasks(source: Path, make_config: MakeConfig) -> None:
    config = make_config(source)
    later = list(source.glob("sim_0005*"))
    for path in later:
        path.rename(source.parent / path.name)
    Run(config, until="maps").execute()
    for path in later:
        (source.parent / path.name).rename(path)
    run = Run(config, until="maps")
    run.execute()
    assert [(report.stage, report.num_done, report.num_kept) for report in run.reports] == [
        ("ingest", 1, 5), ("correlate", 1, 5), ("maps", 1, 5),
    ]  # fmt: skip


def test_changed_options_redo_only_what_depends_on_them(simulated_source: Path, make_config: MakeConfig) -> None:
    Run(make_config(simulated_source), until="maps").execute()
    run = Run(make_config(simulated_source, maps={"windows": ["full"]}), until="maps")
    run.execute()
    assert [report.num_done for report in run.reports] == [0, 0, 6]


def test_plan_before_and_after(simulated_source: Path, make_config: MakeConfig) -> None:
    config = make_config(simulated_source)
    before = {planned.stage: planned for planned in plan(config)}
    assert [len(planned.tasks) for planned in before.values()] == [6, 6, 6, 1, 1, 1, 1]
    assert before["ingest"].read_bytes == 6 * 64 * 48 * 64 * 2
    assert before["correlate"].write_bytes == 6 * 2 * 64 * 64 * 4
    assert before["maps"].write_bytes == 6 * 2 * 3 * (256 * 256 * 4 + 3 * 60 * 16 * 2)
    assert not config.archive.exists()
    Run(config, until="maps").execute()
    after = plan(config, until="maps")
    assert [(planned.num_done, len(planned.tasks)) for planned in after] == [(6, 0)] * 3


def test_what_does_not_fit_is_refused_with_numbers_and_knob(simulated_source: Path, make_config: MakeConfig) -> None:
    config = make_config(simulated_source, executor={"kind": "inline", "memory": "550 MB"})
    with pytest.raises(
        PlanError, match=r"task \S+ is projected to need .* MB .* a worker has 550 MB; raise executor.m"
    ):
        Run(config).execute()
    assert not config.archive.exists()


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(tmp_path / "source", simulate={"num_scans": 50_000, "num_frames": 4000})
    with pytest.raises(PlanError, match=r"the products need up to .* TB, .* is free"):
        check(plan(config, until="ingest"), config)
    with pytest.raises(PlanError, match=r"the products need up to .* TB, .* is free"):
        Run(config, until="ingest").execute()
    assert not config.archive.exists()


def test_a_stage_alone_asks_for_those_before_it(simulated_source: Path, make_config: MakeConfig) -> None:
    with pytest.raises(PlanError, match="correlate: expected `ingest` to be finished, found 6 tasks to do"):
        Run(make_config(simulated_source), "correlate", "correlate").execute()


def test_stages_one_by_one_equal_one_run(settings: Path, undisturbed: Path, tmp_path: Path) -> None:
    for verb in ("ingest", "correlate", "maps"):
        command = [*COMMAND, verb, str(settings), "--archive", str(tmp_path), "--executor", "inline"]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    one_run = {
        path: value for path, value in digests(undisturbed).items() if path.startswith(("frames", "corr", "maps"))
    }
    assert {
        path: value for path, value in digests(tmp_path).items() if path.startswith(("frames", "corr", "maps"))
    } == one_run


def test_no_scan_left_ends_the_run(source: Path, make_config: MakeConfig) -> None:
    for path in source.glob("sim_*.h5"):
        os.truncate(path, 3000)
    with pytest.raises(PlanError, match="no scan is left, the first of 6 problems"):
        Run(make_config(source), until="ingest").execute()


SIMULATE = {"num_scans": 2, "num_frames": 24, "height": 40, "width": 48, "num_q_bins": 2}


def test_simulated_scans_never_go_among_others(tmp_path: Path, make_config: MakeConfig) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "sample_log.csv").write_text("time,stress\n0,1\n", encoding="utf-8")
    with pytest.raises(PlanError, match=r"expected an empty folder for simulated scans, found sample_log\.csv"):
        Run(make_config(folder, simulate=SIMULATE), until="ingest").execute()
    assert (folder / "sample_log.csv").read_text(encoding="utf-8") == "time,stress\n0,1\n"


def test_simulations_with_other_settings_do_not_mix(tmp_path: Path, make_config: MakeConfig) -> None:
    folder = tmp_path / "simulated"
    Run(make_config(folder, simulate=SIMULATE), until="ingest").execute()
    with pytest.raises(PlanError, match="expected scans simulated with these settings, found others"):
        Run(make_config(folder, simulate={**SIMULATE, "num_scans": 1}), until="ingest").execute()
    again = Run(make_config(folder, simulate=SIMULATE, archive=tmp_path / "other"), until="ingest")
    again.execute()
    assert [(report.num_done, report.num_kept) for report in again.reports] == [(0, 2), (2, 0)]


def test_a_snapshot_among_scans_is_set_aside(source: Path, make_config: MakeConfig) -> None:
    from ainerd_hpc.formats.frames.aps import write_raw

    write_raw(source / "sim_0004.h5", np.ones((1, 48, 64), np.uint16), simulated=True)
    config = make_config(source, maps={"windows": ["full"]})
    with pytest.raises(QuarantinedError):
        Run(config).execute()
    assert len(read_table(config.archive / "clusters" / "default.parquet")) == 10


def test_a_changed_partition_is_seen_by_a_stage_alone(source: Path, make_config: MakeConfig) -> None:
    config = make_config(source)
    Run(config, until="correlate").execute()
    with h5py.File(source / "simulated_qmap.hdf", "r+") as file:
        mask = file["qmap/mask"][...]
        mask[20:24] = 0
        file["qmap/mask"][...] = mask
    run = Run(config, "correlate", "correlate")
    run.execute()
    assert run.reports[0].num_done == 6


def test_retrying_one_stage_leaves_the_quarantine_of_others(source: Path, make_config: MakeConfig) -> None:
    _damaged_chunk(source / "sim_0001.h5")
    config = make_config(source)
    with pytest.raises(QuarantinedError):
        Run(config, until="correlate").execute()
    before = (config.archive / "quarantine.jsonl").read_text(encoding="utf-8")
    with pytest.raises(QuarantinedError):
        Run(config, "correlate", "correlate", retry_failed=True).execute()
    assert (config.archive / "quarantine.jsonl").read_text(encoding="utf-8") == before


def test_a_log_column_named_like_one_of_ours(source: Path, make_config: MakeConfig) -> None:
    log = pd.read_csv(source / "sample_log.csv").assign(width=1.5, tau=2.5)
    log.to_csv(source / "sample_log.csv", index=False)
    config = make_config(source, maps={"windows": ["full"]})
    Run(config).execute()
    assert (read_table(config.archive / "catalog.parquet")["sample_width"] == 1.5).all()
    clusters = read_table(config.archive / "clusters" / "default.parquet")
    assert (clusters["sample_tau"] == 2.5).all()
    assert (clusters["width"] == 1.5).all()


def test_a_damaged_product_of_ours_is_named_and_made_anew(
    simulated_source: Path, make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(simulated_source)
    Run(config, until="correlate").execute()
    path = config.archive / "correlation" / "sim_0002.zarr.zip"
    original = path.read_bytes()
    raw = bytearray(original)
    raw[2000] ^= 0xFF
    path.write_bytes(raw)
    run = Run(config, until="maps")
    run.execute()
    told = r"^\S+sim_0002\.zarr\.zip: the product is damaged: .*; it is made anew$"
    assert re.search(told, capsys.readouterr().out, re.MULTILINE)
    assert path.read_bytes() == original
    assert (config.archive / "quarantine.jsonl").read_text("utf-8") == ""
    assert [(one.stage, one.num_done, one.num_kept) for one in run.reports if one.num_done] == [
        ("correlate", 1, 5), ("maps", 1, 5),
    ]  # fmt: skip


def test_two_runs_at_once(simulated_source: Path, make_config: MakeConfig) -> None:
    config = make_config(simulated_source)
    with Archive(config.archive).locked(), pytest.raises(ArchiveError, match="is at work on it"):
        Run(config, until="ingest").execute()


def test_a_full_disk_stops_the_run_and_blames_no_scan(simulated_source: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    (tmp_path / "tiny").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "tiny")]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small file system can be mounted by root only")
    try:
        (archive / "frames").symlink_to(tmp_path / "tiny")
        result = subprocess.run(
            [*COMMAND, "run", "--source", str(simulated_source), "--archive", str(archive), "--executor", "inline"],
            capture_output=True,
            text=True,
        )
    finally:
        subprocess.run(["umount", str(tmp_path / "tiny")], check=True)
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (archive / "quarantine.jsonl").exists()


@pytest.mark.parametrize(
    ("first", "until", "words"),
    [("simulate", None, "the config has no such section"), ("maps", "ingest", "nothing lies between")],
)
def test_impossible_parts_of_the_line(
    first: str, until: str | None, words: str, simulated_source: Path, make_config: MakeConfig
) -> None:
    with pytest.raises(ConfigError, match=words):
        Run(make_config(simulated_source), first, until).execute()


def test_odd_paths(simulated_source: Path, tmp_path: Path) -> None:
    source = tmp_path / "früh [/b] 🙂"
    shutil.copytree(simulated_source, source)
    (source / "sim_0001.h5").rename(source / "a '\"[b] <i>.h5")
    (source / "sim_0001_metadata.hdf").rename(source / "a '\"[b] <i>_metadata.hdf")
    command = [*COMMAND, "run", "--source", str(source), "--archive", str(tmp_path / "archive"), "--until", "correlate"]
    result = subprocess.run([*command, "--executor", "inline"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "a '\"[b] <i>" in read_table(tmp_path / "archive" / "catalog.parquet")["scan_id"].tolist()


def test_run_without_a_config_file(simulated_source: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    command = [*COMMAND, "run", "--source", str(simulated_source), "--archive", str(archive), "--until", "correlate"]
    result = subprocess.run([*command, "--executor", "inline"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(list(Archive(archive).root.glob("correlation/*.zip"))) == 6


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "--source", "/nonexistent", "--archive", "/tmp/none"], 2, "/nonexistent: no such folder"),
        (["run"], 2, "'archive' is missing"),
        (["run", "none.yaml"], 2, "none.yaml: cannot read the config"),
        (["plan", "--source", "."], 2, "'archive' is missing"),
    ],
)
def test_mistakes_are_one_line_on_stderr(arguments: list[str], code: int, words: str) -> None:
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
    assert result.returncode == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback() -> None:
    command = [*COMMAND, "run", "--source", "/nonexistent", "--archive", "/tmp/none", "--debug"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_status_and_plan_print_their_tables(settings: Path, undisturbed: Path) -> None:
    for verb, words in (("status", "last run: "), ("plan", "peak <=")):
        command = [*COMMAND, verb, str(settings), "--archive", str(undisturbed)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert words in result.stdout
        assert [line.split()[0] for line in result.stdout.splitlines()[2:9]] == [
            "ingest", "correlate", "maps", "train", "embed", "cluster", "report",
        ]  # fmt: skip


def test_wrong_config_error_type(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        plan(RunConfig.model_validate({"archive": tmp_path, "source": {"path": tmp_path / "none"}}))


@pytest.mark.slow
def test_a_run_killed_while_it_simulates_ends_with_the_same_products(undisturbed: Path, tmp_path: Path) -> None:
    data = {
        "archive": str(tmp_path / "archive"),
        "source": {"path": str(tmp_path / "source")},
        "simulate": SMALL.model_dump(mode="json"),
        "maps": {"windows": ["full", 32]},
        "executor": {"kind": "local", "workers": 2, "memory": "4 GB"},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    command = [*COMMAND, "run", str(path), "--until", "maps"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(list((tmp_path / "source").glob("*.h5"))) < 2:
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "archive").glob("frames/*"))
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    expected = {
        name: value for name, value in digests(undisturbed).items() if name.startswith(("frames", "corr", "maps"))
    }
    assert {key: value for key, value in digests(tmp_path / "archive").items() if key in expected} == expected
