"""An archive of scans of several lengths and densities that has been through the maps, and a smaller, other one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ainerd_hpc.cli import main
from ainerd_hpc.config import RunConfig, SimulateConfig
from ainerd_hpc.pipeline import Run
from ainerd_hpc.simulate import write_scan, write_shared_files

KINDS = ((64, 3.0), (160, 0.03), (160, 1.0), (64, 0.03), (96, 0.3), (192, 1.0))
"""Frames and photons a pixel and frame."""


def config_for(source: Path, archive: Path) -> RunConfig:
    sections = {"archive": archive, "source": {"path": source}, "maps": {"windows": ["full", 32]}}
    return RunConfig.model_validate({**sections, "executor": {"kind": "inline", "memory": "4 GB"}})


@pytest.fixture(scope="session")
def varied(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Six scans of 72 x 80 pixels, up to their maps."""
    folder = tmp_path_factory.mktemp("varied")
    for number, (frames, mean) in enumerate(KINDS):
        simulated = SimulateConfig(num_frames=frames, height=72, width=80, mean_counts=mean, num_q_bins=2, seed=frames)
        if number == 0:
            write_shared_files(folder / "raw", simulated)
        write_scan(folder / "raw", simulated, number)
    config = config_for(folder / "raw", folder / "archive")
    Run(config, until="maps").execute()
    return config


@pytest.fixture(scope="session")
def other(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The six scans of the shared source, to be run."""
    return config_for(simulated_source, tmp_path_factory.mktemp("other") / "archive")


@pytest.fixture(scope="session")
def studied(simulated_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a scaling study of the shared source: one worker, two repeats, ingest and correlate."""
    folder = tmp_path_factory.mktemp("studied")
    place = ["--source", str(simulated_source), "--archive", str(folder / "none"), "--executor", "inline"]
    varied = ["--until", "correlate", "--repeats", "2", "--kinds", "strong", "--workers", "1"]
    assert main(["scale", *place, "--out", str(folder / "out"), *varied]) == 0
    return folder / "out"
