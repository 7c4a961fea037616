"""Which form of the counts of a q-bin is correlated fastest, from a cost model of this machine."""

from __future__ import annotations

from typing import NamedTuple

DENSE, EVENTS = "dense", "events"
"""Forms of the counts of a q-bin."""


class Costs(NamedTuple):
    """Seconds of one thread; the defaults were measured on AMD EPYC with AVX-512 (VNNI), 2026-11-20."""

    pair: float = 1.3e-9
    """One pair of events in C2."""
    event: float = 12e-9
    """Finding, sorting and adding up one event, with its part of g2."""
    int8_product: float = 2.3e-12
    """One product of two counts in C2, from int8."""
    float64_product: float = 3.6e-11
    dense_count: float = 1.2e-9
    """Copying one count of a dense q-bin, with its part of g2."""


class Load(NamedTuple):
    """What the choice rests on, for one q-bin."""

    num_pixels: int
    num_frames: int
    num_products: int
    """Entries of C2 that are made, of one pixel."""
    density: float
    """Share of pixels with a photon in a frame, from a sample of frames."""
    is_int8: bool
    """Whether the counts of the sample go up to 127 at most."""


def seconds(load: Load, costs: Costs) -> dict[str, float]:
    """Expected seconds of one thread for C2 and g2, by form."""
    products = load.num_pixels * load.num_products
    product = costs.int8_product if load.is_int8 else costs.float64_product
    num_events = load.density * load.num_pixels * load.num_frames
    return {
        DENSE: products * product + load.num_pixels * load.num_frames * costs.dense_count,
        EVENTS: products * load.density**2 * costs.pair + num_events * costs.event,
    }


def choose(load: Load, costs: Costs) -> str:
    """The faster form, DENSE or EVENTS."""
    expected = seconds(load, costs)
    return min(expected, key=lambda form: expected[form])


def even_density(costs: Costs, num_frames: int = 1000) -> float:
    """The density at which both forms of a dim q-bin take the same time (bisection)."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        load = Load(1, num_frames, num_frames**2 // 2, middle, is_int8=True)
        low, high = (middle, high) if choose(load, costs) == EVENTS else (low, middle)
    return low
