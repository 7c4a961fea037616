"""What this machine takes for its work: measured once by `ainerd-hpc calibrate`, else the stated constants."""

from __future__ import annotations

import json
import math
import os
import platform
from pathlib import Path
from typing import NamedTuple, TypeVar

from ainerd_hpc.kernels.choice import Costs
from ainerd_hpc.publishing import write_json


class Rates(NamedTuple):
    """Seconds of one thread beside correlation; the defaults were measured on AMD EPYC with AVX-512, 2026-11-30."""

    read_count: float = 0.5e-9
    """Reading one count of compressed frames in place."""
    stored_count: float = 6e-9
    """Reading one count of compressed frames, and compressing it anew into the archive."""
    archived_count: float = 4.5e-9
    """Reading one count of frames from the archive."""
    map_entry: float = 1.5e-8
    """One entry of C2 that is made a part of a map."""
    network_product: float = 1.0e-11
    """One multiply-add of a convolution, float32."""


class Machine(NamedTuple):
    """All that is known of the speed of this machine."""

    costs: Costs = Costs()
    rates: Rates = Rates()

    @property
    def figures(self) -> dict[str, float]:
        """All costs and rates by name."""
        return self.costs._asdict() | self.rates._asdict()

    @property
    def slowness(self) -> float:
        """How much longer than on the machine of the stated constants what is not measured by itself takes: the
        geometric mean of what is."""
        stated = Machine().figures
        return math.exp(sum(math.log(value / stated[name]) for name, value in self.figures.items()) / len(stated))

    @property
    def network_slowness(self) -> float:
        """How much longer a network takes here than on the machine for which it states its seconds."""
        return self.rates.network_product / Rates().network_product


_Figures = TypeVar("_Figures", Costs, Rates)


def costs_path() -> Path:
    """The file that keeps the measured costs and rates of this kind of processor."""
    return kept_path("costs")


def kept_path(what: str, place: str = "") -> Path:
    """The file that keeps what was measured of a place, or of this kind of processor."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ainerd_hpc" / f"{what}-{place or _processor()}.json"


def load_machine() -> Machine:
    """The costs and the rates, either of them measured where a sound measurement is kept, else as stated."""
    return Machine(load_costs(), _stored(Rates))


def load_costs() -> Costs:
    """The measured costs where there are any, and they are sound; else the stated ones."""
    return _stored(Costs)


def _stored(kind: type[_Figures]) -> _Figures:
    """The stored figures of one kind, all together or none: those of different times are not to be compared."""
    try:
        stored = json.loads(costs_path().read_text(encoding="utf-8"))
        figures = kind(**{name: float(stored[name]) for name in kind._fields})
    except (OSError, ValueError, KeyError, TypeError):
        return kind()
    return figures if all(0 < value < 1 for value in figures) else kind()


def keep(machine: Machine) -> None:
    """Keep what was measured."""
    costs_path().parent.mkdir(parents=True, exist_ok=True)
    write_json(costs_path(), machine.figures)


def _processor() -> str:
    """A name for this kind of processor, fit for a file name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())
