from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from ainerd_hpc.config import RunConfig, digest, load, parse_duration
from ainerd_hpc.errors import ConfigError
from tests.config_reference import reference

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))
MINIMAL = "archive: a\nsource:\n  path: b\n"


def _write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_fits_the_schema(path: Path) -> None:
    assert load(path).archive
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), RunConfig.model_json_schema())


def test_unknown_key_names_file_line_and_nearest_key(tmp_path: Path) -> None:
    path = _write(tmp_path, MINIMAL + "train:\n  epochs: 3\n  batchsize: 4\n")
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value) == f"{path}, line 6: unknown key 'train.batchsize'; did you mean 'batch_size'?"


def test_unknown_section_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 4: unknown key 'corelate'; did you mean 'correlate'\?"):
        load(_write(tmp_path, MINIMAL + "corelate: {}\n"))


def test_wrong_value_names_line_and_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 5: 'train.epochs': .*greater than 0, found -1"):
        load(_write(tmp_path, MINIMAL + "train:\n  epochs: -1\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("archive: [", "not valid YAML"),
        ("- a\n- b\n", "expected a mapping"),
        ("source:\n  path: b\n", "'archive' is missing"),
    ],
)
def test_unusable_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load(_write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read the config"):
        load(tmp_path / "none.yaml")


def test_overrides_win_and_need_no_file() -> None:
    config = load(None, ["archive=x", "source.path=y", "train.epochs=7", "maps.windows=[full, 64]"])
    assert (config.train.epochs, config.maps.windows) == (7, ("full", 64))


@pytest.mark.parametrize("override", ["train.epochs", "=3", "archive.deeper=3"])
def test_bad_overrides(override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load(None, ["archive=x", "source.path=y", override])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(2, 2.0), ("5 ms", 0.005), ("2min", 120.0), ("1.5 h", 5400.0), ("1e-3 s", 1e-3), ("20 us", 2e-5), ("3", 3.0)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "5 parsec", "abc", "-3 s", True, None])
def test_wrong_durations(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


def test_memory_is_typed() -> None:
    assert load(None, ["archive=x", "source.path=y", "executor.memory=4 GB"]).executor.memory == 4 * 10**9


def test_digest_changes_with_every_part_and_with_nothing_else() -> None:
    config = load(None, ["archive=x", "source.path=y"])
    assert digest("a", 1, config.maps) == digest("a", 1, config.maps.model_copy())
    variants = {
        digest("a", 1, config.maps),
        digest("b", 1, config.maps),
        digest("a", 2, config.maps),
        digest("a", 1, config.maps.model_copy(update={"overlap": 0.5})),
        digest("a", 1, config.maps, ["x", "y"]),
        digest("a", 1, config.maps, ["y", "x"]),
    }
    assert len(variants) == 6


def test_schema_verb_writes_what_the_model_says(tmp_path: Path) -> None:
    from ainerd_hpc.cli import main

    path = tmp_path / "schema.json"
    assert main(["schema", "--output", str(path)]) == 0
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert schema == RunConfig.model_json_schema()
    assert "Folder of scans" in schema["$defs"]["SourceConfig"]["properties"]["path"]["description"]


def test_the_reference_in_the_readme_is_that_of_the_models() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    missing = [row for row in reference().splitlines() if row not in readme]
    assert not missing, "put the output of `python -m tests.config_reference` into README.md"


def test_every_key_is_explained() -> None:
    assert not [row for row in reference().splitlines() if row.endswith("|  |")]


def test_the_schema_takes_durations_as_text(tmp_path: Path) -> None:
    text = "archive: a\nsource:\n  path: b\n  frame_time: 5 ms\n"
    jsonschema.validate(yaml.safe_load(text), RunConfig.model_json_schema())
    assert load(_write(tmp_path, text)).source.frame_time == 0.005
