"""Predicted seconds: formulas against numbers worked out by hand, and what must hold for any load."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ainerd_hpc.kernels.choice import Costs
from ainerd_hpc.scaling import cost_model
from ainerd_hpc.scaling.cost_model import FORMULAS, estimate_density, predict, prices, task_seconds
from ainerd_hpc.site.calibration import Machine, Rates
from ainerd_hpc.types import Content, Load, Plan, Scan, Shape, Task

MACHINE = Machine()
MILLION = 10**6


def task(load: Load, threads: int = 1, write_bytes: int = 0) -> Task:
    return Task("a", "digest", 0, 0, write_bytes, load=load, threads=threads)


def scan(**more: object) -> Scan:
    facts = {"scan_id": "a", "source": "a.h5", "format": "aps-hdf5", "content": Content.FRAMES, "num_frames": 100}
    sizes = {"height": 100, "width": 100, "itemsize": 2, "num_q_bins": 1, "frame_time": 1.0}
    return Scan(**{**facts, **sizes, **more})  # type: ignore[arg-type]


def of_counts(stage: str, load: Load, threads: int = 1) -> float:
    """Seconds beyond those of a task that has nothing to do."""
    nothing = Load(form=load.form, density=load.density, network=load.network, num_epochs=load.num_epochs)
    return task_seconds(stage, task(load, threads), MACHINE) - task_seconds(stage, task(nothing), MACHINE)


@pytest.mark.parametrize(
    ("stage", "load", "seconds"),
    [
        ("simulate", Load(1000, MILLION), 1e9 * (47e-9 + 1000 * 1.6e-10)),
        ("ingest", Load(num_read=10**9, density=0.5), 6.0),  # 6 ns a count, as frames
        ("ingest", Load(num_read=10**9, density=0.01), 0.5 + 1e7 * 52e-9),  # read in place, and 12 + 40 ns an event
        ("ingest", Load(num_read=10**9, density=0.5, form="events"), 0.5 + 5e8 * 52e-9),
        ("correlate", Load(num_read=10**9, density=0.5), 4.5),  # from the archive
        ("correlate", Load(num_read=10**9, density=0.01), 1e7 * 3e-9),  # its events
        ("correlate", Load(num_read=10**9, density=0.5, form="none"), 0.5),  # in place
        # A million pixels in 100 frames: 5050 int8 products of 2.3 ps each, and 100 counts of 1.2 ns.
        ("correlate", Load(100, MILLION, num_products=5050, density=1.0), 5.05e9 * 2.3e-12 + 1e8 * 1.2e-9),
        # The same, sparse: pairs of 1.3 ns and events of 12 ns.
        ("correlate", Load(100, MILLION, num_products=5050, density=0.01), 5.05e9 * 1e-4 * 1.3e-9 + MILLION * 12e-9),
        # Corrected counts are float64, and all of them count.
        (
            "correlate",
            Load(100, MILLION, num_products=5050, density=0.01, is_corrected=True),
            5.05e9 * 3.6e-11 + 1e8 * 1.2e-9,
        ),
        ("correlate", Load(num_q_bins=10), 0.025),
        ("maps", Load(num_maps=10, num_entries=10 * 1000**2), 0.035 + 1e7 * 15e-9),
        ("train", Load(num_maps=100, num_epochs=10, network="ainerd2024"), 1000 * 0.02),
        ("train", Load(num_maps=100, num_epochs=10, network="ainerd2024", precision="bf16-mixed"), 1000 * 0.013),
        ("train", Load(num_maps=100, network="ainerd2024"), 0.0),  # weights are adopted
        ("embed", Load(num_maps=100, network="ainerd2024"), 100 * 0.011),
        ("cluster", Load(num_maps=1000), 2.0 + 0.8),
        ("cluster", Load(num_maps=100_000), 27.0 + 120.0),
        ("report", Load(num_maps=1000, num_entries=10**8), 2.5 + 1.5),
    ],
)
def test_formulas_give_what_is_worked_out_by_hand(stage: str, load: Load, seconds: float) -> None:
    assert of_counts(stage, load) == pytest.approx(seconds, rel=1e-6, abs=1e-9)


def test_stored_entries_of_c2_take_their_time() -> None:
    empty, full = (task_seconds("correlate", task(Load(), write_bytes=size), MACHINE) for size in (0, 4 * 10**8))
    assert full - empty == pytest.approx(1.0)


def test_threads_share_what_they_can() -> None:
    load = Load(num_read=10**9, density=0.5, num_q_bins=10)
    assert of_counts("correlate", load, 3) == pytest.approx(0.025 + 4.5 / 3)
    assert of_counts("embed", Load(num_maps=1000, network="ainerd2024"), 4) == pytest.approx(11 / 4)
    assert of_counts("maps", Load(num_maps=10), 4) == of_counts("maps", Load(num_maps=10), 1), "on one thread"


AMOUNTS = st.integers(0, 10**6)
LOADS = st.builds(
    Load,
    num_frames=AMOUNTS,
    num_pixels=AMOUNTS,
    num_read=st.integers(0, 10**12),
    form=st.sampled_from(["auto", "events", "frames", "none"]),
    is_corrected=st.booleans(),
    num_q_bins=AMOUNTS,
    density=st.one_of(st.floats(0, 1), st.just(math.nan)),
    num_products=st.integers(0, 10**12),
    num_maps=AMOUNTS,
    num_entries=AMOUNTS,
    num_epochs=AMOUNTS,
    network=st.just("ainerd2024"),
)
GROWING = [
    "num_frames",
    "num_pixels",
    "num_read",
    "num_q_bins",
    "num_products",
    "num_maps",
    "num_entries",
    "num_epochs",
]


@given(st.sampled_from(sorted(FORMULAS)), LOADS, st.sampled_from(GROWING), st.integers(1, 10**6), st.integers(1, 64))
def test_more_to_do_never_takes_less(stage: str, load: Load, name: str, more: int, threads: int) -> None:
    less = task_seconds(stage, task(load, threads), MACHINE)
    larger = replace(load, **{name: getattr(load, name) + more})
    assert 0 < less <= task_seconds(stage, task(larger, threads), MACHINE) < math.inf


@given(st.sampled_from(["ingest", "correlate"]), LOADS, st.floats(0, 1))
def test_unknown_density_takes_as_long_as_any(stage: str, load: Load, density: float) -> None:
    unknown, known = (task_seconds(stage, task(replace(load, density=one)), MACHINE) for one in (math.nan, density))
    dense = task_seconds(stage, task(replace(load, density=1.0)), MACHINE)
    assert unknown == dense
    if load.form != "auto":  # where the form changes with the density, so does what it costs
        assert known <= dense * (1 + 1e-12)


@given(LOADS, st.sampled_from(sorted(FORMULAS)), st.floats(0.1, 10))
def test_a_machine_that_is_slower_throughout_takes_longer_throughout(load: Load, stage: str, factor: float) -> None:
    slower = Machine(Costs(*(factor * one for one in Costs())), Rates(*(factor * one for one in Rates())))
    seconds, longer = (task_seconds(stage, task(load), machine) for machine in (MACHINE, slower))
    assert longer == pytest.approx(factor * seconds)


def test_density_is_that_of_the_events_or_of_the_bytes() -> None:
    assert estimate_density(scan(num_events=50_000)) == pytest.approx(0.05)
    assert estimate_density(scan(stored_bytes=50_000)) == pytest.approx(0.01)
    assert estimate_density(scan(stored_bytes=10**9)) == 1
    assert math.isnan(estimate_density(scan()))
    assert math.isnan(estimate_density(scan(content=Content.C2, height=0, width=0, stored_bytes=10**6)))


def test_a_plan_is_filled_in_and_its_core_hours_are_those_of_all_threads() -> None:
    tasks = tuple(task(Load(num_maps=9000, network="ainerd2024"), threads=2) for _ in range(4))
    found = predict(Plan("embed", Shape.ARRAY, tasks), MACHINE)
    each = 0.05 + 9000 * 0.011 / 2
    assert [one.seconds for one in found.tasks] == pytest.approx([each] * 4)
    assert found.seconds == pytest.approx(4 * each)
    assert found.core_hours == pytest.approx(4 * each * 2 / 3600)
    unknown = Plan("another", Shape.ARRAY, tasks)
    assert predict(unknown, MACHINE) == unknown, "a stage without a formula is planned all the same"


def test_prices_are_those_of_the_formulas() -> None:
    """1e8 counts each: one bright scan kept as frames, one dim one kept as events; maps cost nothing here."""
    facts = {"num_frames": 1000, "height": 400, "width": 250}
    bright, dim = scan(stored_bytes=10**8, **facts), scan(stored_bytes=5 * 10**6, **facts)
    copied, in_place = prices([bright, dim, scan(content=Content.C2)], MACHINE)
    assert copied.written == pytest.approx(0.62e8 + 0.35 * 5e6)
    assert copied.seconds == pytest.approx(0.6 + 0.05 + 1e6 * 52e-9 + 2 * 0.015)
    assert copied.reading == pytest.approx(0.45 + 1e6 * 3e-9)
    assert (in_place.written, in_place.seconds, in_place.read) == (0, 0, 10**8 + 5 * 10**6)
    assert in_place.reading == pytest.approx(0.1)


def test_sparse_is_one_word() -> None:
    assert [cost_model.is_sparse(one) for one in (0.0, 0.039, 0.041, math.nan)] == [True, True, False, False]
