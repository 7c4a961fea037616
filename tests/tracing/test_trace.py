"""The way of a file back to its sources: as it is told, and as an RO-Crate that the format's own reader opens."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from rocrate.rocrate import ROCrate

from ainerd_hpc.archive.layout import Archive, recorded_digest
from ainerd_hpc.cli import main
from ainerd_hpc.tracing.chain import trace
from ainerd_hpc.versions import versions

SCAN = "sim_0003"
Said = pytest.CaptureFixture[str]
LINE = ["ingest", "correlate", "maps", "train", "embed", "cluster", "report"]


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def figure(whole_archive: Path, tmp_path: Path) -> Path:
    """A figure of one scan."""
    assert main(["figures", str(whole_archive), "--output", str(tmp_path), "--only", "g2", "--scan", SCAN]) == 0
    return tmp_path / f"g2_{SCAN}.pdf"


def test_a_product_of_a_scan_goes_back_to_the_files_of_that_scan(whole_archive: Path, capsys: Said) -> None:
    product = Archive(whole_archive).maps_path(SCAN)
    assert main(["trace", str(product), "--checksums"]) == 0
    said = capsys.readouterr().out
    source = whole_archive.parent / "source"
    for name in (f"{SCAN}.h5", f"{SCAN}_metadata.hdf", "simulated_qmap.hdf"):
        assert f"{source / name}, {(source / name).stat().st_size} bytes, sha256 {sum_of(source / name)}" in said
    assert "sim_0001" not in said
    assert f"sha256 {sum_of(product)}" in said
    assert f"digest {recorded_digest(product)}" in said
    assert f"ainerd_hpc {versions()['ainerd_hpc']}, python {versions()['python']}" in said


def test_steps_tell_the_run_and_the_config_that_made_them(whole_archive: Path) -> None:
    found = trace(Archive(whole_archive).maps_path(SCAN))
    (record,) = [json.loads(path.read_bytes()) for path in (whole_archive / "runs").glob("*.json")]
    config = yaml.safe_load((whole_archive / "runs" / "config.yaml").read_text())
    assert [step.stage for step in found.steps] == LINE[:3]
    for step in found.steps:
        (making,) = step.makings
        assert (making.run_id, making.user) == (record["run_id"], record["user"])
    assert found.steps[2].settings == {"maps": config["maps"]}
    assert found.steps[1].settings["correlate"] == config["correlate"]
    assert not found.model


def test_the_page_goes_back_to_all_scans_and_the_model(whole_archive: Path) -> None:
    found = trace(Archive(whole_archive).report_path)
    assert [scan.scan_id for scan in found.scans] == [f"sim_{number:04}" for number in range(6)]
    assert [step.stage for step in found.steps] == LINE
    assert found.model["weights_sha256"] == sum_of(Archive(whole_archive).weights_path("default"))


def test_the_index_of_maps_goes_back_to_all_scans(whole_archive: Path) -> None:
    found = trace(Archive(whole_archive).map_index_path)
    assert (len(found.scans), [step.stage for step in found.steps]) == (6, LINE[:3])


def test_a_figure_goes_back_to_its_product_and_says_when_that_has_changed(
    whole_archive: Path, figure: Path, capsys: Said
) -> None:
    found = trace(figure)
    assert found.made_of == (Archive(whole_archive).correlation_path(SCAN).resolve(),)
    assert [scan.scan_id for scan in found.scans] == [SCAN]
    assert not found.changed
    manifest = figure.with_name("figures.json")
    manifest.write_text(manifest.read_text().replace(recorded_digest(found.made_of[0]), "another"))
    assert main(["trace", str(figure)]) == 0
    assert "which has changed since: draw it again" in capsys.readouterr().out


def test_what_is_nothing_of_an_archive_is_refused(whole_archive: Path, tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "other.txt").write_text("")
    for path, words in (
        (tmp_path / "none.parquet", "found no such file"),
        (tmp_path / "other.txt", "found no catalog.parquet in any folder above it"),
        (whole_archive / "runs" / "config.yaml", "found another file"),
    ):
        assert main(["trace", str(path)]) == 2
        assert words in capsys.readouterr().err


def graph_of(path: Path) -> dict[str, Any]:
    return {one["@id"]: one for one in json.loads(path.read_text())["@graph"]}


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_a_crate_is_opened_by_the_reader_of_the_format(whole_archive: Path, tmp_path: Path) -> None:
    archive = shutil.copytree(whole_archive, tmp_path / "archive")
    page, license = Archive(archive).report_path, "https://creativecommons.org/licenses/by/4.0/"
    assert main(["trace", str(page), "--ro-crate", str(archive), "--license", license]) == 0
    crate = ROCrate(archive)
    assert crate.root_dataset["license"].id == license
    assert crate.mainEntity.id == "report/index.html"
    assert crate.mainEntity["sha256"] == sum_of(page)
    actions = {one.id.split("-")[0].removeprefix("#"): one for one in crate.get_by_type("CreateAction")}
    assert sorted(actions) == sorted(LINE)
    assert "clusters/default.parquet" in {one.id for one in many(actions["report"]["object"])}
    assert f"correlation/{SCAN}.zarr.zip" in {one.id for one in many(actions["correlate"]["result"])}
    assert actions["maps"]["instrument"]["softwareVersion"] == versions()["ainerd_hpc"]


def test_every_id_in_a_crate_is_described_and_files_outside_have_their_place(figure: Path) -> None:
    crate = figure.parent / "crate" / "g2-ro-crate-metadata.json"
    assert main(["trace", str(figure), "--ro-crate", str(crate), "--checksums"]) == 0
    graph = graph_of(crate)
    links = {
        one["@id"] for entity in graph.values() for value in entity.values() for one in many(value) if "@id" in one
    }
    assert links - set(graph) == {"https://w3id.org/ro/crate/1.1"}
    drawing = graph["#figures"]
    assert drawing["result"] == {"@id": figure.as_uri()}
    assert graph[drawing["object"]["@id"]]["sha256"] == sum_of(trace(figure).made_of[0])
