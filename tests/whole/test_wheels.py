"""No dependency, of the package or of its tests, asks for a compiler."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

WITHOUT_WHEEL = {"x86_64": set[str](), "aarch64": {"hdbscan"}}
"""hdbscan is built from source on aarch64: its project publishes no wheel for it."""
_NEWEST_GLIBC = 34
_PINNED = {"torch", "ainerd-hpc"}
"""Installed otherwise."""


def needed(
    name: str, extras: tuple[str, ...], found: set[tuple[str, tuple[str, ...]]]
) -> set[tuple[str, tuple[str, ...]]]:
    """Distributions that a distribution asks for, and what these ask for, as they are installed here."""
    if (name, extras) not in found:
        found.add((name, extras))
        for text in distribution(name).requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                needed(requirement.name.lower(), tuple(requirement.extras), found)
    return found


def is_compiled(name: str) -> bool:
    return "none-any" not in (distribution(name).read_text("WHEEL") or "")


@pytest.mark.parametrize("machine", WITHOUT_WHEEL)
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_compiled_dependencies_come_as_wheels(python: str, machine: str, tmp_path: Path) -> None:
    names = {name for name, _ in needed("ainerd-hpc", ("test",), set()) if is_compiled(name)} - _PINNED
    assert {"numpy", "h5py", "hdf5plugin", "numba", "hdbscan", "mpi4py"} <= names
    systems = [f"manylinux_2_{number}_{machine}" for number in range(5, _NEWEST_GLIBC + 1)]
    command = [*(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet")]
    command += ["--only-binary", ":all:", "--target", str(tmp_path), "--python-version", python]
    command += [word for system in (*systems, f"manylinux2014_{machine}") for word in ("--platform", system)]
    asked = subprocess.run([*command, *sorted(names - WITHOUT_WHEEL[machine])], capture_output=True, text=True)
    if "Failed to establish a new connection" in asked.stderr or "Could not fetch URL" in asked.stderr:
        pytest.skip("no package index can be reached")
    assert asked.returncode == 0, asked.stderr
