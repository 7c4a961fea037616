"""Where a campaign runs: this machine, or the nodes of a site, with what was learned there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import tell
from ainerd_hpc.scaling.fitting import Fitted, load_fitted
from ainerd_hpc.site.calibration import Machine, load_machine
from ainerd_hpc.site.site_file import SiteConfig, load_site
from ainerd_hpc.study.estimate import StageEstimate, estimate
from ainerd_hpc.submission.steps import config_of
from ainerd_hpc.types import Plan


class Place(NamedTuple):
    """A machine as an estimate sees it."""

    name: str
    config: RunConfig
    """The config with the executor of its jobs."""
    fitted: Fitted
    machine: Machine
    site: SiteConfig | None

    def estimate(self, plans: Sequence[Plan]) -> list[StageEstimate]:
        """What these plans cost here."""
        return estimate(plans, self.config, self.fitted, self.machine, self.site)


def place_of(config: RunConfig) -> Place:
    """The site of the config where it has one, else this machine; a site without runs to learn from counts as this."""
    path = config.executor.site
    if path is None:
        return Place("this machine", config, load_fitted(), load_machine(), None)
    site, fitted = load_site(path), load_fitted(path)
    if not fitted:
        tell(f"nothing was learned from runs on {path.stem}: its processors count as those of this machine")
    return Place(path.stem, config_of("array", config, site), fitted or load_fitted(), load_machine(), site)
