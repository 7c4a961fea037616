"""The stages in the order of the data: the one table that names them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ainerd_hpc.config import RunConfig
    from ainerd_hpc.stages.contract import Stage


class Entry(NamedTuple):
    """A stage as the table has it; its module is imported when it is needed."""

    place: str
    """ "module:class" below `ainerd_hpc.stages`."""
    purpose: str
    """What it does, in a few words."""


STAGES: Mapping[str, Entry] = {
    "simulate": Entry("simulate:Simulate", "write simulated detector files with known truth"),
    "ingest": Entry("ingest:Ingest", "copy the counts, write the catalog"),
    "correlate": Entry("correlate:Correlate", "two-time correlation and g2 of every scan"),
    "maps": Entry("maps:Maps", "windows of C2, resampled and scaled for the network"),
    "train": Entry("train:Train", "train the autoencoder, or adopt given weights"),
    "embed": Entry("embed:Embed", "latents of all maps"),
    "cluster": Entry("cluster:Cluster", "picture, clusters and novelty"),
    "report": Entry("report:Report", "one HTML page of everything"),
}


def create(name: str, config: RunConfig) -> Stage:
    """A stage by its name, imported now."""
    module, _, attribute = STAGES[name].place.partition(":")
    stage: Stage = getattr(importlib.import_module(f"ainerd_hpc.stages.{module}"), attribute)(config)
    return stage
