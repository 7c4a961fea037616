"""How threads wait: as this package says, unless somebody has said otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ainerd_hpc.executors.through_dask import worker_environment
from ainerd_hpc.site.waiting import BRIEFLY, wait_briefly


@pytest.mark.parametrize("given", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}, {}])
def test_whoever_has_set_a_policy_keeps_it(given: dict[str, str]) -> None:
    environment = dict(given)
    wait_briefly(environment)
    assert environment == (given or BRIEFLY)


def test_workers_are_told_before_they_load_anything() -> None:
    assert BRIEFLY.items() <= worker_environment(1).items()


def test_threads_of_openmp_wait_as_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line says it before torch loads OpenMP, which tells what it has taken up."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "verbose")
    code = "import sys; from ainerd_hpc import cli; sys.argv[1:] = ['schema']; cli.main(); import torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "GOMP_SPINCOUNT = '1000'" in done.stderr
