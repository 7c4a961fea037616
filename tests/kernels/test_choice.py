"""The choice of the form of counts, and the costs that it rests on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ainerd_hpc.cli import main
from ainerd_hpc.kernels.choice import DENSE, EVENTS, Costs, Load, choose, even_density, seconds
from ainerd_hpc.site import calibration as costs

FULL = 1000 * 1000 // 2


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("density", "num_products", "is_int8", "form"),
    [
        (0.001, FULL, True, EVENTS),
        (0.01, FULL, True, EVENTS),
        (0.3, FULL, True, DENSE),
        (0.1, FULL, False, EVENTS),  # float64 products are slow
        (0.3, 1000 * 8, True, DENSE),  # along the diagonal alone, counts are cheaper than events
    ],
)
def test_sparse_counts_are_taken_as_events_and_others_as_dense(density, num_products, is_int8, form):
    assert choose(Load(10_000, 1000, num_products, density, is_int8), Costs()) == form


def test_expected_seconds_are_the_sums_of_their_parts():
    load = Load(num_pixels=200, num_frames=100, num_products=6000, density=0.1, is_int8=True)
    unit = Costs(pair=1.0, event=10.0, int8_product=0.01, float64_product=1.0, dense_count=0.1)
    assert seconds(load, unit)[EVENTS] == pytest.approx(200 * 6000 * 0.01 + 10 * 2000)
    assert seconds(load, unit)[DENSE] == pytest.approx(0.01 * 200 * 6000 + 0.1 * 20_000)
    assert seconds(load._replace(is_int8=False), unit)[DENSE] == pytest.approx(200 * 6000 + 0.1 * 20_000)


def test_the_even_density_is_where_the_forms_cost_the_same():
    density = even_density(Costs())
    expected = seconds(Load(1, 1000, FULL, density, True), Costs())
    assert expected[DENSE] == pytest.approx(expected[EVENTS], rel=1e-6)
    assert 0.02 < density < 0.1


def test_measured_costs_are_kept_and_used(capsys):
    assert costs.load_costs() == Costs()
    assert main(["calibrate"]) == 0
    machine = costs.load_machine()
    found = machine.costs
    assert found != Costs()
    assert machine.rates != costs.Rates()
    assert json.loads(costs.costs_path().read_text()) == pytest.approx(found._asdict() | machine.rates._asdict())
    assert 0.1 < machine.slowness < 10
    # The ratio of two speeds of one machine: a factor of five either way is another kind of processor, or a fault.
    ratio = (found.pair / found.int8_product) / (Costs().pair / Costs().int8_product)
    assert 0.2 < ratio < 5
    assert str(costs.costs_path()) in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{}", '{"pair": 1e-9}', "[1]", '{"pair": "x"}', "\x00"])
def test_a_damaged_cache_falls_back_to_the_stated_costs(text):
    costs.costs_path().parent.mkdir(parents=True)
    costs.costs_path().write_text(text)
    assert costs.load_costs() == Costs()


@pytest.mark.parametrize("value", [0, -1e-9, np.inf, 3.0])
def test_absurd_costs_are_not_believed(value):
    costs.costs_path().parent.mkdir(parents=True)
    costs.costs_path().write_text(json.dumps({**Costs()._asdict(), "pair": value}))
    assert costs.load_costs() == Costs()


def test_costs_that_were_kept_before_there_were_rates_are_read():
    costs.costs_path().parent.mkdir(parents=True)
    costs.costs_path().write_text(json.dumps({**Costs()._asdict(), "pair": 2e-9}))
    assert costs.load_machine() == costs.Machine(Costs(pair=2e-9), costs.Rates())
