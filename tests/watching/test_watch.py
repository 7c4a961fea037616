"""The verb `watch` against programs that write HDF5 while it looks: killed, started again, and taken over by a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ainerd_hpc.archive.journal import json_lines
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.cli import main
from ainerd_hpc.commands.watch import with_folder
from ainerd_hpc.config import RunConfig
from ainerd_hpc.loading import load
from tests.conftest import digests

Said = pytest.CaptureFixture[str]


@pytest.fixture
def archive(known: Archive, tmp_path: Path) -> Archive:
    """A copy of the small archive that a test may change."""
    return Archive(Path(shutil.copytree(known.root, tmp_path / "archive")))


@pytest.fixture
def incoming(simulated_source: Path, tmp_path: Path) -> Path:
    """An empty folder, with the metadata of a scan that is to come."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    for name in ("plain", "swmr"):
        shutil.copy(simulated_source / "sim_0001_metadata.hdf", folder / f"{name}_metadata.hdf")
    return folder


def _words(folder: Path, archive: Archive, *more: str) -> list[str]:
    return ["watch", str(folder), "--archive", str(archive.root), "--executor", "inline", "--every", "0.1", *more]


def _watch(folder: Path, archive: Archive, *more: str) -> list[dict]:
    """Watch until nothing comes any more; all lines that were ever told."""
    assert main(_words(folder, archive, "--until-idle", "1.5", *more)) == 0
    return _lines(archive)


def _lines(archive: Archive) -> list[dict]:
    return list(json_lines(archive.root / "watch.jsonl"))


def _novel(folder: Path, source: Path) -> None:
    """A scan of another kind: its speckle never stands still and comes back every few frames."""
    shutil.copy(source / "sim_0001_metadata.hdf", folder / "strange_metadata.hdf")
    chance = np.random.default_rng(0)
    speckle = chance.gamma(1.0, 3.0, (4, 48, 64))
    frames = chance.poisson(speckle[np.arange(64) // 2 % 4]).astype(np.uint16)
    with h5py.File(folder / "strange.h5", "w") as file:
        file["entry/data/data"] = frames


def test_scans_are_told_once_whatever_is_killed_and_a_run_takes_them_over(
    archive: Archive, incoming: Path, simulated_source: Path, write, tmp_path: Path
) -> None:
    """A plain writer is done when the watch is killed, one with readers (SWMR) in the middle of its work."""
    write(simulated_source / "sim_0001.h5", incoming / "plain.h5", "plain", 0.0)
    log = tmp_path / "watch.log"
    with log.open("w") as file:
        program = [sys.executable, "-m", "ainerd_hpc.cli", *_words(incoming, archive)]
        watch = subprocess.Popen(program, stdout=file, stderr=subprocess.STDOUT)
    until = time.monotonic() + 60
    while not _lines(archive):
        assert watch.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)
    late = write(simulated_source / "sim_0002.h5", incoming / "swmr.h5", "swmr", 0.05)
    assert late.stdout
    late.stdout.readline()
    os.kill(watch.pid, signal.SIGKILL)
    watch.wait()
    (archive.root / "maps" / ".half@here.1.tmp").touch()  # as a kill may leave it
    lines = _watch(incoming, archive)
    assert [line["scan_id"].rpartition("--")[2] for line in lines] == ["plain", "swmr"]
    assert {line["label"] for line in lines} == {1, 2}  # the data of the scans that were copied
    for line, copied in zip(lines, ("sim_0001", "sim_0002"), strict=True):
        assert (line["verdict"], next(iter(line["nearest"]))) == ("known", copied)
        assert line["nearest"][copied] == 0
    assert {"waited", "ingest", "correlate", "maps", "label", "total"} <= lines[0]["seconds"].keys()
    before = digests(archive.root)
    assert main(["run", str(archive.root), "--until", "maps"]) == 0
    done = json.loads(max((archive.root / "runs").glob("*.json")).read_text())["stages"]
    assert {stage["stage"]: stage["num_done"] for stage in done} == {"ingest": 0, "correlate": 0, "maps": 0}
    both = [str(simulated_source), str(incoming)]
    fresh = tmp_path / "fresh"
    words = ["--archive", str(fresh), "--executor", "inline", "--until", "maps", "--set", "maps.windows=[32]"]
    ids = archive.scan_ids_path
    (fresh / "journal").mkdir(parents=True)
    shutil.copy(ids, fresh / "journal" / ids.name)  # the same names
    assert main(["run", *words, "--set", f"source.path={json.dumps(both)}"]) == 0
    made = digests(fresh)
    scans = [name for name in made if name.endswith(".zarr.zip")]
    assert len(scans) == 3 * 8 + 1
    assert {name: before[name] for name in scans} == {name: made[name] for name in scans}


def test_a_new_kind_is_announced_and_faults_stop_nothing(
    archive: Archive, incoming: Path, simulated_source: Path, tmp_path: Path, capsys: Said
) -> None:
    _novel(incoming, simulated_source)
    (incoming / "broken.h5").write_bytes((simulated_source / "sim_0003.h5").read_bytes()[:5000])
    shutil.copy(simulated_source / "sim_0001_metadata.hdf", incoming / "dead_metadata.hdf")
    with h5py.File(incoming / "dead.h5", "w") as file:
        file["entry/data/data"] = np.full((64, 48, 64), 65535, np.uint16)
    program = f"{sys.executable} -c \"import sys; open(sys.argv[1], 'a').write(sys.stdin.read())\" {tmp_path / 'new'}"
    (line,) = _watch(incoming, archive, "--on-new", program)
    said = capsys.readouterr().out
    assert line["verdict"] == "new"
    assert line["label"] == -1
    assert len(line["nearest"]) == 3
    assert f"{line['scan_id']}: NEW" in said
    assert json.loads((tmp_path / "new").read_text()) == line
    assert "--dead is not taken up:" in said
    page = (archive.root / "report" / "watch.html").read_text()
    assert 'http-equiv="refresh"' in page
    assert "<script" not in page
    assert page.count("<img") == 1
    assert "--broken" in page
    assert "--dead" in page
    assert _watch(incoming, archive) == [line]  # nothing is told again
    assert main(["run", str(archive.root), "--until", "maps"]) == 3  # it sets aside what was not taken up
    aside = {entry["scan_id"].rpartition("--")[2] for entry in json_lines(archive.root / "quarantine.jsonl")}
    assert aside == {"broken", "dead"}


def test_a_folder_that_is_gone_may_come_back(archive: Archive, incoming: Path, simulated_source: Path) -> None:
    from ainerd_hpc.executors import Workers
    from ainerd_hpc.watching.known import Known
    from ainerd_hpc.watching.taking import Taking
    from ainerd_hpc.watching.watch import Options, _Loop

    config = with_folder(load(archive.config_path), incoming)
    with Workers(config.executor, archive.root) as workers:
        loop = _Loop(config, Options(), Known(config), Taking(config, workers, "run"))
        incoming.rename(incoming.with_name("away"))
        assert loop.round() == 0
        assert loop.state().endswith("no source")
        incoming.with_name("away").rename(incoming)
        loop.round()
        assert "no source" not in loop.state()


def test_an_archive_without_clusters_says_so(simulated_source: Path, tmp_path: Path, capsys: Said) -> None:
    assert main(["watch", str(simulated_source), "--archive", str(tmp_path)]) == 2
    assert "found none; make one with `ainerd-hpc run` first" in capsys.readouterr().err


def test_a_folder_is_added_to_those_of_the_archive(tmp_path: Path) -> None:
    def roots(*given: str, watched: str) -> list[str]:
        config = RunConfig.model_validate({"archive": "a", "source": {"path": [tmp_path / one for one in given]}})
        return [path.name for path in with_folder(config, tmp_path / watched).source.roots]

    assert roots("a", watched="a/b") == ["a"]
    assert roots("a", watched="b") == ["a", "b"]
    assert roots("a/b", "c", watched="a") == ["c", "a"]
