"""The way from a YAML file to what it says, checked, with the line of every mistake.

Values are read by the core schema of YAML 1.2: `no`, `off`, 010, 1:30 and 2024-01-15 are the text or the number that
they look like. A key that stands twice in a section is an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ainerd_hpc.config import RunConfig
from ainerd_hpc.errors import ConfigError

Loaded = TypeVar("Loaded", bound=BaseModel)
_FLAGS = {"archive": "--archive DIR", "source": "--source FOLDER"}
"""Arguments of the command that set what has no default."""


_MOST_VALUES = 100_000
"""Most values of a file; a few aliases of aliases can stand for any number."""


class _KeyTwice(ValueError):
    """A section has a key twice."""

    def __init__(self, first: yaml.Node, again: yaml.Node) -> None:
        super().__init__(again.value)
        self.key, self.first, self.line = again.value, first.start_mark.line + 1, again.start_mark.line + 1


class _Loader(yaml.SafeLoader):
    """Reads plain data, and makes nothing else of it."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  those of YAML 1.1 are not taken over

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: dict[Any, yaml.Node] = {}
        for key, _ in node.value:
            if key.value in keys and key.value != "<<":
                raise _KeyTwice(keys[key.value], key)
            keys[key.value] = key
        return dict(super().construct_mapping(node, deep))

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """A whole number: 0o17 and 0x1f are octal and hexadecimal, 010 is ten."""
        text = str(self.construct_scalar(node))
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
for _tag, _pattern, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: texts are quoted where they would be something else to it."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def to_yaml(data: Mapping[str, Any]) -> str:
    """The text of a YAML file that `load_as` reads, keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def absolute(value: Any) -> Any:
    """The same, with every path made absolute: who reads it may be in another folder."""
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, dict):
        return {key: absolute(one) for key, one in value.items()}
    return tuple(map(absolute, value)) if isinstance(value, tuple) else value


def load(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config file and apply overrides.

    Parameters
    ----------
    path : Path or None
        YAML file; None starts from the defaults, so that the overrides must give `archive` and `source.path`.
    overrides : sequence of str
        "key.subkey=value", the value in YAML notation.

    Raises
    ------
    ConfigError
        Naming the file, line, key and the nearest key that exists.
    """
    return load_as(RunConfig, path, overrides)


def load_as(model: type[Loaded], path: Path | None, overrides: Sequence[str] = ()) -> Loaded:
    """A file of another kind, read as by `load`."""
    data, lines = _read_yaml(path) if path else ({}, {})
    for override in overrides:
        _apply_override(data, override)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, path, lines, model)) from None


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The parsed file, and the line of every dotted key in it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        data, tree = _parse(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the config: {error}; check the path") from None
    except _KeyTwice as error:
        raise ConfigError(
            f"{path}, line {error.line}: '{error.key}' again, first in line {error.first}; keep one of them"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or not isinstance(tree, yaml.MappingNode):
        raise ConfigError(f"{path}: expected a mapping such as 'archive: my_archive', found {type(data).__name__}")
    lines: dict[str, int] = {}
    _collect_lines(tree, "", lines)
    return data, lines


def _parse(text: str) -> tuple[Any, yaml.Node | None]:
    """What a text says, and its nodes."""
    tree = yaml.compose(text, Loader=_Loader)
    if tree and _size(tree, {}) > _MOST_VALUES:
        raise ValueError(f"expected at most {_MOST_VALUES} values, found that its aliases stand for more")
    return yaml.load(text, Loader=_Loader), tree  # noqa: S506  a safe loader


def _size(node: yaml.Node, sizes: dict[yaml.Node, float]) -> float:
    """Values in a node with all that its aliases stand for; of one that stands in itself there is no end."""
    if node not in sizes:
        sizes[node] = inf
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in pairs for part in pair]
        sizes[node] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[node]


def _collect_lines(node: yaml.MappingNode, prefix: str, lines: dict[str, int]) -> None:
    for key, value in node.value:
        dotted = f"{prefix}{key.value}"
        lines[dotted] = key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            _collect_lines(value, f"{dotted}.", lines)


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value, e.g. --set train.epochs=5")
    *parents, last = key.split(".")
    for parent in parents:
        child = data.setdefault(parent, {})
        if child is None:
            child = data[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: '{parent}' is a value, not a section")
        data = child
    try:
        data[last] = _parse(value)[0]
    except _KeyTwice as error:
        raise ConfigError(f"--set {override}: expected '{error.key}' once, found it twice; keep one of them") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        data[last] = value


def _explain(error: ValidationError, path: Path | None, lines: Mapping[str, int], model: type[BaseModel]) -> str:
    """One line for the first mistake, with the number of the others."""
    first = error.errors()[0]
    keys = [str(part) for part in first["loc"]]
    known = [".".join(keys[:depth]) for depth in range(len(keys), 0, -1)]
    line = next((lines[key] for key in known if key in lines), None)
    where = f"{path or 'arguments'}{f', line {line}' if line else ''}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    key = ".".join(keys)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'{_suggest(keys, model)}{more}"
    if first["type"] == "missing":
        given = f"give it in the config or as {_FLAGS[keys[0]]}" if keys[0] in _FLAGS else "give it in the file"
        return f"{where}: '{key}' is missing; {given}{more}"
    return f"{where}: '{key}': {first['msg'].removeprefix('Value error, ')}, found {first['input']!r}{more}"


def _suggest(keys: Sequence[str], model: Any) -> str:
    """The nearest key of the section that the unknown one stands in, or the list of them."""
    section = model
    for key in keys[:-1]:
        section = section.model_fields[key].annotation
        section = next((arg for arg in getattr(section, "__args__", ()) if arg is not type(None)), section)
    names = list(section.model_fields)
    near = difflib.get_close_matches(keys[-1], names, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; the keys here are {', '.join(names)}"
