"""The stages by name."""

from __future__ import annotations

import importlib

from ainerd_hpc.config import RunConfig
from ainerd_hpc.stages.contract import Stage

_CLASSES = {
    "simulate": "ainerd_hpc.stages.simulate:Simulate",
    "ingest": "ainerd_hpc.stages.ingest:Ingest",
    "correlate": "ainerd_hpc.stages.correlate:Correlate",
    "maps": "ainerd_hpc.stages.maps:Maps",
    "train": "ainerd_hpc.stages.train:Train",
    "embed": "ainerd_hpc.stages.embed:Embed",
    "cluster": "ainerd_hpc.stages.cluster:Cluster",
    "report": "ainerd_hpc.stages.report:Report",
}


def create(name: str, config: RunConfig) -> Stage:
    """A stage by its name, imported now."""
    module, attribute = _CLASSES[name].split(":")
    stage: Stage = getattr(importlib.import_module(module), attribute)(config)
    return stage
