from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from ainerd_hpc.config import MapsConfig, ReportConfig, RunConfig, TrainConfig, parse_duration
from ainerd_hpc.digests import digest
from ainerd_hpc.errors import ConfigError
from ainerd_hpc.loading import load, to_yaml
from tests.support.config_reference import reference
from tests.support.places import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
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
        ("source:\n  path: b\n", "'archive' is missing; give it in the config or as --archive DIR"),
        ("archive: a\n", "'source' is missing; give it in the config or as --source FOLDER"),
        ("archive: a\nsource:\n", "'source.path' is missing; give it in the config or as --source FOLDER"),
        (
            "archive: a\nsource: {path: b}\ntrain:\n  epochs: 3\n  epochs: 4\n",
            "line 5: 'epochs' again, first in line 4; keep one of",
        ),
        ("archive: a\nsource: {path: b}\ntrain:\ntrain:\n", "line 4: 'train' again, first in line 3; keep one of them"),
        ("archive: a\nsource: {path: b, path: c}\n", "line 2: 'path' again, first in line 2"),
        ("[" * 2000, "not valid YAML: .*recursion"),
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
    ("key", "text", "value"),
    [
        ("report.title", "no", "no"),
        ("report.title", "off", "off"),
        ("report.title", "2024-01-15", "2024-01-15"),
        ("report.title", "1:30", "1:30"),
        ("report.title", "'5'", "5"),
        ("report.title", "5ms", "5ms"),
        ("train.epochs", "010", 10),
        ("train.epochs", "0x10", 16),
        ("train.epochs", "0o10", 8),
        ("train.epochs", "1:30", None),
        ("train.epochs", "true", None),
        ("train.epochs", "1e1", 10),
        ("train.epochs", "1.5", None),
        ("train.learning_rate", "1e-3", 0.001),
        ("train.learning_rate", ".5", 0.5),
        ("train.learning_rate", "true", None),
        ("source.frame_time", "5ms", 0.005),
        ("source.frame_time", "1e-2", 0.01),
        ("source.frame_time", "true", None),
        ("correlate.bad_frames", "[true]", None),
        ("correlate.bad_frames", "[1, 02]", (1, 2)),
        ("correlate.frame_normalisation", "true", True),
        ("executor.dashboard", "no", False),
        ("executor.dashboard", "off", False),
        ("executor.dashboard", "FALSE", False),
        ("executor.workers", "~", None),
        ("model.name", "null", None),
    ],
)
def test_values_are_those_of_yaml_1_2(key: str, text: str, value: object, tmp_path: Path) -> None:
    """In a file and after --set alike; None: refused, or nothing where that may be."""
    section, _, name = key.partition(".")
    head = "" if section == "source" else f"{section}:\n"
    path = _write(tmp_path, f"{MINIMAL}{head}  {name}: {text}\n")
    for given in ((path, []), (None, ["archive=a", "source.path=b", f"{key}={text}"])):
        if value is None and key != "executor.workers":
            with pytest.raises(ConfigError, match=f"'{key}"):
                load(*given)
        else:
            found = getattr(getattr(load(*given), section), name)
            assert found == value
            assert type(found) is type(value)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    texts = [
        "no",
        "010",
        "1e3",
        "1:30",
        "2024-01-15",
        "~",
        "true",
        "0x10",
        ".5",
        "<<",
        "",
        " a ",
        "#",
        "5 ms",
        "µ",
        "\n",
    ]
    for text in texts:
        config = load(None, ["archive=a", "source.path=b"]).model_copy(update={"report": ReportConfig(title=text)})
        path = _write(tmp_path, to_yaml(config.model_dump(mode="json")))
        assert load(path) == config


@pytest.mark.parametrize("override", ["train={epochs: 1, epochs: 2}", "train={a: {b: 1, b: 2}}"])
def test_a_key_twice_after_set(override: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--set train=.*: expected '(epochs|b)' once, found it twice; keep one of them"
    ):
        load(None, ["archive=x", "source.path=y", override])


@pytest.mark.parametrize(
    "text", [MINIMAL.replace("\n", "\r\n"), "\ufeff" + MINIMAL, MINIMAL + "train: &a {epochs: 3}\n"]
)
def test_bom_crlf_and_anchors(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_bytes(text.encode())
    assert str(load(tmp_path / "config.yaml").source.path) == "b"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(2, 2.0), ("5 ms", 0.005), ("2min", 120.0), ("1.5 h", 5400.0), ("1e-3 s", 1e-3), ("20 us", 2e-5), ("3", 3.0)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "5 parsec", "abc", "-3 s", "1.2.3 s", ". s", True, None])
def test_wrong_durations(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("maps.windows=[foo]", "'maps.windows.0': expected full or a number of frames (>= 8), found 'foo'"),
        ("maps.windows=[full, 4]", "'maps.windows.1': expected full or a number of frames (>= 8), found 4"),
        (
            "source.frame_time=5 sec",
            "'source.frame_time': expected a duration such as 0.2, '5 ms' or '2 min', found '5 sec'",
        ),
        ("source.frame_time=.inf", "'source.frame_time': Input should be a finite number, found inf"),
        ("train.learning_rate=.inf", "'train.learning_rate': Input should be a finite number, found inf"),
        ("maps.overlap=.nan", "'maps.overlap': Input should be a finite number, found nan"),
        ("train.seed=-1", "'train.seed': Input should be greater than or equal to 0, found -1"),
        ("simulate.seed=-1", "'simulate.seed': Input should be greater than or equal to 0, found -1"),
        ("cluster.seed=-1", "'cluster.seed': Input should be greater than or equal to 0, found -1"),
        ("cluster.seed=4294967296", "'cluster.seed': Input should be less than 4294967296, found 4294967296"),
    ],
)
def test_a_wrong_value_is_told_once_under_its_own_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, ["archive=x", "source.path=y", override])
    assert str(error.value) == f"arguments: {message}"


def test_a_number_too_large_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"'source\.frame_time'"):
        load(None, ["archive=x", "source.path=y", f"source.frame_time={10**400}"])


def test_an_empty_section_takes_its_defaults(tmp_path: Path) -> None:
    config = load(_write(tmp_path, MINIMAL + "train:\nmaps:\nsimulate:\n"))
    assert (config.train, config.maps, config.simulate) == (TrainConfig(), MapsConfig(), None)


def test_home_is_expanded_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = ("archive", "source.path", "source.partition", "source.sample_log", "model.weights")
    config = load(None, [f"{key}=~/{key}" for key in keys])
    source = config.source
    paths = (config.archive, source.path, source.partition, source.sample_log, config.model.weights)
    assert paths == tuple(tmp_path / key for key in keys)
    assert RunConfig.model_json_schema()["properties"]["archive"]["format"] == "path"


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


def test_every_key_is_explained() -> None:
    assert not [row for row in reference().splitlines() if row.endswith("|  |")]


def test_the_schema_takes_durations_as_text(tmp_path: Path) -> None:
    text = "archive: a\nsource:\n  path: b\n  frame_time: 5 ms\n"
    jsonschema.validate(yaml.safe_load(text), RunConfig.model_json_schema())
    assert load(_write(tmp_path, text)).source.frame_time == 0.005
