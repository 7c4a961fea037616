"""The learning of the weights that lag_age comes with: its losses against plain loops, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ainerd_hpc.kernels.cells import SURENESS_UNIT
from ainerd_hpc.models.lag_age import LagAge
from ainerd_hpc.models.weights import build
from ainerd_hpc.pretraining import learning
from ainerd_hpc.pretraining.samples import KNOWN, VIEWS, Samples


def _contrastive_truth(latents: np.ndarray, label: list[int], temperature: float = 0.3) -> float:
    """Mean over anchors with a partner of the mean over these of -log of their share."""
    losses = []
    for i in range(len(label)):
        others = [j for j in range(len(label)) if j != i]
        partners = [j for j in others if label[j] == label[i]]
        total = np.log(sum(np.exp(latents[i] @ latents[j] / temperature) for j in others))
        if partners:
            losses.append(np.mean([total - latents[i] @ latents[j] / temperature for j in partners]))
    return float(np.mean(losses))


LABEL = [0, 1, 0, 2, 2, 2, 3, 1]


def _units(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(len(LABEL), 5))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(3))
def test_the_contrastive_loss_equals_a_plain_loop(seed: int) -> None:
    loss = learning.contrastive(torch.from_numpy(_units(seed)), torch.tensor(LABEL))
    assert float(loss) == pytest.approx(_contrastive_truth(_units(seed), LABEL), rel=1e-12)


def test_the_gradient_of_the_contrastive_loss_is_that_of_finite_differences() -> None:
    latents = torch.from_numpy(_units()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: learning.contrastive(x, torch.tensor(LABEL)), (latents,))


def _made_up(num_each: int = 4, num_compositions: int = 8) -> Samples:
    """A pattern for each label, with noise: nothing of physics."""
    random = np.random.default_rng(0)
    label = np.concatenate(
        [np.tile(np.arange(len(KNOWN)), num_each), np.repeat(len(KNOWN) + np.arange(num_compositions), VIEWS)]
    )
    patterns = random.random((label.max() + 1, 60, 1)) * random.random((label.max() + 1, 1, 16))
    expected = patterns[label]
    values = np.stack(
        [expected + 0.05 * random.normal(size=expected.shape), 0.1 * expected, 0.6 + 0 * expected], axis=1
    )
    half_decay = np.where(label % 5, label / label.max(), np.nan).astype(np.float32)
    return Samples(values.astype(np.float16), expected.astype(np.float16), half_decay, label.astype(np.int64))


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "OF_EACH_KIND", 2)
    monkeypatch.setattr(learning, "COMPOSITIONS", 4)


@pytest.mark.usefixtures("_small_batches")
def test_batches_have_as_many_of_every_kind_and_whole_compositions() -> None:
    made_up, random = _made_up(), np.random.default_rng(1)
    batches = list(learning._batches(made_up, random))
    assert len(batches) == 2
    for rows in batches:
        label = made_up.label[rows]
        assert len(set(rows)) == len(rows)
        assert np.bincount(label[label < len(KNOWN)]).tolist() == [2] * len(KNOWN)
        assert np.unique(label[label >= len(KNOWN)], return_counts=True)[1].tolist() == [VIEWS] * 4
    known = np.concatenate(batches)[np.concatenate([made_up.label[rows] < len(KNOWN) for rows in batches])]
    assert len(set(known)) == len(known), "no sample twice in an epoch"


@pytest.mark.usefixtures("_small_batches")
def test_learning_lowers_all_losses_and_repeats() -> None:
    told: list[tuple[float, ...]] = []
    model = learning.learn(_made_up(), 8, 3, lambda *figures: told.append(figures))
    assert [figures[0] for figures in told] == list(range(1, 9))
    for place, least in ((1, 0.8), (2, 0.95), (3, 0.8)):
        assert told[-1][place] < least * told[0][place], told
    again = learning.learn(_made_up(), 8, 3, lambda *_: None).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())


def test_added_noise_lowers_the_sureness_by_as_much() -> None:
    random = np.random.default_rng(0)
    values = torch.zeros(400, 3, 60, 16)
    values[:, 2, :40] = float(np.log1p(20.0)) / SURENESS_UNIT
    torch.manual_seed(0)
    more = learning._noisier(values, random)
    sureness = (more[:, 2] * SURENESS_UNIT).expm1()[:, :40]
    error = (1 / sureness.mean((1, 2)) ** 2 - 1 / 20.0**2).clamp_min(0).sqrt()
    spread = more[:, 0, :40].std((1, 2))
    assert 0.4 < float((spread > 0).float().mean()) < 0.6
    np.testing.assert_allclose(spread, error, rtol=0.1, atol=1e-4)
    assert (more[:, 0, 40:] == 0).all()
    assert (more[:, 2, 40:] == 0).all()


@pytest.mark.parametrize("shift", [-3, 0, 2])
def test_cells_and_what_is_expected_of_them_are_shifted_together(shift: int) -> None:
    values = torch.rand(2, 3, 60, 16) + 0.1
    cells, expected = learning._shifted(values, values[:, 0].clone(), shift)
    known = cells[:, 2] > 0
    assert (cells[:, 0] == expected)[known].all()
    assert int((~known).sum()) == 2 * abs(shift) * 16


def test_the_loss_of_half_decays_equals_a_plain_loop_and_leaves_unknown_ones_out() -> None:
    random = np.random.default_rng(0)
    told, truth = random.normal(size=(40, 2)), random.normal(size=40)
    truth[::3] = np.nan
    parts = [b + abs(a - y) / np.exp(b) for (a, b), y in zip(told, truth, strict=True) if np.isfinite(y)]
    guess = torch.from_numpy(told).requires_grad_()
    loss = learning.unlikelihood(guess, torch.from_numpy(truth))
    assert float(loss.detach()) == pytest.approx(np.mean(parts), rel=1e-12)
    loss.backward()
    assert guess.grad is not None
    assert guess.grad.isfinite().all()
    assert (guess.grad[::3] == 0).all()


def test_errors_are_widened_to_hold_what_was_not_learned_from() -> None:
    """Two thirds of other samples lie within them, whatever the network told before."""
    samples = _made_up(80, 80)
    torch.manual_seed(0)
    model = build("lag_age").eval()
    assert isinstance(model, LagAge)
    learned, held_out = learning._split(samples)
    assert len(learned.label) + len(held_out.label) == len(samples.label)
    assert not set(learned.label[learned.label >= len(KNOWN)]) & set(held_out.label[held_out.label >= len(KNOWN)])
    learning._calibrate(model, held_out)
    within = []
    for part in (held_out, learned):
        told = model.look(torch.from_numpy(part.cells.astype(np.float32)))[1].detach().numpy()
        known = np.isfinite(part.half_decay)
        within.append(np.mean(np.abs(told[:, 0] - part.half_decay)[known] <= np.exp(told[known, 1])))
    assert within[0] == pytest.approx(0.68, abs=0.05)
    assert within[1] == pytest.approx(0.68, abs=0.15)


def test_half_decays_are_learned_and_latents_stay_as_they_were() -> None:
    samples = _made_up(40, 40)
    torch.manual_seed(0)
    model = build("lag_age").eval()
    assert isinstance(model, LagAge)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses: list[float] = []
    learning.learn_half_decay(model, samples, 6, 0, lambda _, loss: losses.append(loss))
    assert losses[-1] < losses[0] - 0.5
    changed = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"to_half_decay"}
