"""Digests: of config sections, versions and inputs, and of source files as they are known by name, size and date."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel

from ainerd_hpc.config import ModelConfig
from ainerd_hpc.errors import ConfigError


def digest(*parts: BaseModel | str | int | Sequence[str]) -> str:
    """SHA-256 (first 16 hex digits) of config sections, versions and input digests, in the given order."""
    texts = (_section_text(part) if isinstance(part, BaseModel) else json.dumps(part, sort_keys=True) for part in parts)
    return hashlib.sha256(f"[{', '.join(texts)}]".encode()).hexdigest()[:16]


def _section_text(section: BaseModel) -> str:
    """A section as JSON, made once: a million digests are made of the same few sections."""
    known = _texts.get(id(section))
    if known is None:
        if len(_texts) == _MOST_TEXTS:
            _texts.clear()
        known = _texts[id(section)] = section, json.dumps(section.model_dump(mode="json"), sort_keys=True)
    return known[1]


_texts: dict[int, tuple[BaseModel, str]] = {}
"""Sections with their texts, by identity; they do not change, and are kept so that no other one gets the same."""
_MOST_TEXTS = 256


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(paths: Iterable[Path], *more: str) -> str:
    """Digest of the files' names, sizes and modification times, and of what else tells two sources apart."""
    return digest([f"{path.name} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats(paths)], *more)


def stats(paths: Iterable[Path]) -> list[tuple[Path, os.stat_result]]:
    """Those files that are there and within reach, with their sizes and dates."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            found.append((path, path.stat()))
    return found


def stamps(paths: Iterable[Path]) -> list[str]:
    """Size and date of each file; empty where it is not there, or out of reach."""
    return list(map(_stamp, paths))


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def weights_digest(model: ModelConfig) -> str:
    """Digest of given weights and the network that they are for; empty where the model is to be trained.

    Raises
    ------
    ConfigError
        The file does not exist.
    """
    if model.given_weights is None:
        return ""
    if model.weights is None:
        return digest(model.variant, sha256(model.given_weights))
    if not model.weights.is_file():
        raise ConfigError(f"model.weights {model.weights}: no such file; correct the path, or leave it out to train")
    return digest(model.variant, fingerprint((model.weights,)))
