"""The loss, the noise that is added, the epochs; one process, the same weights for the same seed and samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ainerd_hpc.kernels.cells import PER_OCTAVE, SURENESS_UNIT
from ainerd_hpc.models.lag_age import FURTHEST_SHIFT, LagAge
from ainerd_hpc.models.weights import build
from ainerd_hpc.pretraining.samples import KNOWN, VIEWS, Samples

OF_EACH_KIND, COMPOSITIONS = 16, 48
"""Samples in a batch: of every known kind, and compositions with all of their views."""
_TEMPERATURE = 0.3
"""Cosines in this unit are the logits. At 0.1, usual for many classes, a kind is told long before its maps are near
each other, and clusters fall apart within it."""
_VIEWS_WEIGHT, _RECONSTRUCTION_WEIGHT = 0.3, 4.0
_LEARNING_RATE, _DECAY, _WARM_UP = 2e-3, 1e-3, 0.1
_MORE_NOISE = (0.3, 4.0)
"""Noise that is added to half of the samples, in errors of each cell."""

_ERRORS = (-4.0, 2.0)
"""Bounds of ln of the error of a half decay, so that no sample counts for all."""
_HELD_OUT = 0.05
"""Share of the samples of each kind, and of the compositions, that the errors are measured with in the end."""
_ROWS = 256
"""Samples in a batch, where nothing is compared within it."""

Told = Callable[[int, float, float, float], None]
"""Called after each epoch: (epoch, kinds, views, reconstruction), mean losses."""


class _Kinds(nn.Module):
    """A direction for each known kind; only the training needs them."""

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(len(KNOWN), latent_size))

    def forward(self, latents: Tensor) -> Tensor:
        return latents @ functional.normalize(self.directions, dim=1).T / _TEMPERATURE


def learn(samples: Samples, epochs: int, seed: int, told: Told) -> LagAge:
    """A model trained on samples.

    Notes
    -----
    The loss is the sum of three. Kinds: cross entropy of the cosines between a latent and a direction for each kind.
    Views: the supervised contrastive loss between compositions in a batch, so that latents tell what no kind is named
    for. Reconstruction: mean absolute difference between what is drawn from the latent and |g1|^2.
    """
    torch.manual_seed(seed)
    model, random = build("lag_age"), np.random.default_rng(seed)
    assert isinstance(model, LagAge)
    kinds = _Kinds(model.network.latent_size)
    parameters = [*model.parameters(), *kinds.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=_DECAY)
    steps = epochs * _steps(samples)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps + 1, pct_start=_WARM_UP)
    model.train()
    for epoch in range(epochs):
        losses = []
        for rows in _batches(samples, random):
            loss = _losses(model, kinds, samples, rows, random)
            optimizer.zero_grad()
            total = loss[0] + _VIEWS_WEIGHT * loss[1] + _RECONSTRUCTION_WEIGHT * loss[2]
            total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
            losses.append([float(part.detach()) for part in loss])
        told(epoch + 1, *np.mean(losses, axis=0).tolist())
    return model.eval()


def learn_half_decay(
    model: LagAge, samples: Samples, epochs: int, seed: int, told: Callable[[int, float], None]
) -> None:
    """Train what tells the half decay, beside latents that stay as they are; `told` as in `learn`, of its one loss.

    Notes
    -----
    The loss is minus the log likelihood of ln of the half decay, with a Laplace distribution of the width that is
    told. In the end the widths are scaled so that 68 % of samples that were not learned from lie within them.
    """
    torch.manual_seed(seed)
    random, head, (learned, held_out) = np.random.default_rng(seed), model.to_half_decay, _split(samples)
    rows = np.flatnonzero(np.isfinite(learned.half_decay))
    optimizer = torch.optim.AdamW(head.parameters(), lr=_LEARNING_RATE, weight_decay=_DECAY)
    steps = epochs * math.ceil(len(rows) / _ROWS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps + 1, pct_start=_WARM_UP)
    for epoch in range(epochs):
        losses = []
        for batch in np.array_split(random.permutation(rows), math.ceil(len(rows) / _ROWS)):
            with torch.no_grad():
                cells, _, truth = _drawn(learned, batch, random)
                seen = model.see(cells)
            loss = unlikelihood(head(seen), truth)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        told(epoch + 1, float(np.mean(losses)))
    _calibrate(model, held_out)


def _split(samples: Samples) -> tuple[Samples, Samples]:
    """The samples to learn from, and the last ones of each kind and of the compositions."""
    label = np.minimum(samples.label, len(KNOWN))
    is_held_out = np.zeros(len(label), bool)
    for each in np.unique(label):
        rows = np.flatnonzero(label == each)
        num = round(_HELD_OUT * len(rows) / VIEWS) * VIEWS
        is_held_out[rows[len(rows) - num :]] = True
    return samples.of(~is_held_out), samples.of(is_held_out)


def _calibrate(model: LagAge, held_out: Samples) -> None:
    """Widen the errors of the half decay until 68 % of samples that were not learned from lie within them."""
    known = np.isfinite(held_out.half_decay)
    if not known.any():
        return
    with torch.inference_mode():
        parts = np.array_split(held_out.cells[known], math.ceil(known.sum() / _ROWS))
        told = torch.cat([model.look(torch.from_numpy(part.astype(np.float32)))[1] for part in parts]).numpy()
    deviations = np.abs(told[:, 0] - held_out.half_decay[known]) / np.exp(told[:, 1])
    last = model.to_half_decay[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias[1] += float(np.log(np.quantile(deviations, 0.6827)))


def _steps(samples: Samples) -> int:
    return int((samples.label < len(KNOWN)).sum()) // (OF_EACH_KIND * len(KNOWN))


def _batches(samples: Samples, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Rows of each batch of an epoch: as many of every kind, then compositions, drawn anew when they are used up."""
    kinds = [random.permutation(np.flatnonzero(samples.label == label)) for label in range(len(KNOWN))]
    views = np.flatnonzero(samples.label >= len(KNOWN)).reshape(-1, VIEWS)
    rounds = math.ceil(_steps(samples) * COMPOSITIONS / max(len(views), 1))
    order = np.concatenate([random.permutation(len(views)) for _ in range(rounds)])
    for step in range(_steps(samples)):
        known = [rows[step * OF_EACH_KIND : (step + 1) * OF_EACH_KIND] for rows in kinds]
        composed = views[order[step * COMPOSITIONS : (step + 1) * COMPOSITIONS]]
        yield np.concatenate([*known, composed.ravel()])


def _losses(
    model: LagAge, kinds: _Kinds, samples: Samples, rows: NDArray[np.int64], random: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    cells, expected, _ = _drawn(samples, rows, random)
    label = torch.from_numpy(samples.label[rows])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents = model.encode(cells.contiguous(memory_format=torch.channels_last))
        drawn = model.reconstruct(latents).float()
    latents, is_known, known = latents.float(), label < len(KNOWN), (cells[:, 2] > 0).float()
    of_kinds = functional.cross_entropy(kinds(latents[is_known]), label[is_known])
    of_views = contrastive(latents[~is_known], label[~is_known])
    return of_kinds, of_views, ((drawn - expected).abs() * known).sum() / known.sum()


def _drawn(samples: Samples, rows: NDArray[np.int64], random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Samples with more noise and another shift: cells, what is expected of them, ln of their half decay."""
    cells, expected = (torch.from_numpy(values[rows].astype(np.float32)) for values in samples[:2])
    cells, shift = _noisier(cells, random), int(random.integers(-FURTHEST_SHIFT, FURTHEST_SHIFT + 1))
    half_decay = torch.from_numpy(samples.half_decay[rows]) + shift * math.log(2) / PER_OCTAVE
    return *_shifted(cells, expected, shift), half_decay


def unlikelihood(told: Tensor, truth: Tensor) -> Tensor:
    """Minus the mean log likelihood, but for a constant, of truths (n,): Laplace distributions with the centres and ln
    of the widths told (n, 2); NaN counts for nothing."""
    known = truth.isfinite()
    centre, width = told[known].T
    width = width.clamp(*_ERRORS)
    loss: Tensor = (width + (centre - truth[known]).abs() / width.exp()).mean()
    return loss


def contrastive(latents: Tensor, label: Tensor) -> Tensor:
    """The supervised contrastive loss of unit vectors (n, d) with labels (n,): Khosla et al., NeurIPS 2020, eq. 2."""
    itself = torch.eye(len(latents), dtype=torch.bool)
    likeness = (latents @ latents.T / _TEMPERATURE).masked_fill(itself, -1e9)
    log_chance = likeness - torch.logsumexp(likeness, 1, keepdim=True)
    same = (label[:, None] == label) & ~itself
    return -((log_chance * same).sum(1) / same.sum(1).clamp_min(1))[same.any(1)].mean()


def _noisier(cells: Tensor, random: np.random.Generator) -> Tensor:
    """More noise in half of the samples: of each cell's own error times a factor, which its sureness then tells."""
    low, high = np.log(_MORE_NOISE)
    factor = np.exp(random.uniform(low, high, len(cells))) * (random.random(len(cells)) < 0.5)
    more = torch.from_numpy(factor.astype(np.float32))[:, None, None]
    sureness = (cells[:, 2] * SURENESS_UNIT).expm1()
    known = sureness > 0
    noise = more / sureness.clamp_min(1e-3) * torch.randn_like(sureness)
    cells = cells.clone()
    cells[:, 0] = (cells[:, 0] + noise * known).clamp(-1, 2) * known
    cells[:, 2] = torch.log1p(sureness / (1 + more**2).sqrt()) / SURENESS_UNIT
    return cells


def _shifted(cells: Tensor, expected: Tensor, shift: int) -> tuple[Tensor, Tensor]:
    """Both shifted along the lags; cells that come in have no entries."""
    cells = cells.roll(shift, 2)
    cells[:, :, slice(shift) if shift >= 0 else slice(shift, None)] = 0
    return cells, expected.roll(shift, 1)
