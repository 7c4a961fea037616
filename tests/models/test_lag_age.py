"""The network of cells: what it comes with, what it makes of a map, and what a training leaves alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ainerd_hpc.config import RunConfig, TrainConfig
from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.kernels.cells import cells
from ainerd_hpc.models.embedding import embed
from ainerd_hpc.models.lag_age import LagAge
from ainerd_hpc.models.registry import network
from ainerd_hpc.models.weights import build, initial_model, load_model, save_weights
from ainerd_hpc.training import fit

RECORD = network("lag_age")
TRAIN = TrainConfig(epochs=2, batch_size=4, validation_share=0.4, seed=1, threads=1, learning_rate=3e-4)


@pytest.fixture(scope="module")
def model():
    return load_model("lag_age", RECORD.own_weights)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads gain nothing on maps so small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clock_of(kind, w):
    """Time as the sample lives it."""
    time = np.arange(w) / w
    return {"even": time, "slower": (1 - np.exp(-4 * time)) / 2, "jumps": 0.05 * time + 2.0 * (time > 0.5)}[kind]


def window(kind, w=128, noise=0.01, contrast=0.2, tau=0.2, seed=0):
    """C2 of a decay on a clock, or of one that comes back again and again."""
    random = np.random.default_rng(seed)
    if kind == "echoes":
        turns = np.sin(2 * np.pi * 6 * np.arange(w) / w)
        g1 = np.exp(-0.5 * (2.5 * (turns[:, None] - turns)) ** 2)
    else:
        clock = clock_of(kind, w)
        g1 = np.exp(-np.abs(clock[:, None] - clock) / tau)
    more = np.triu(random.normal(size=(w, w)), 1)
    return 1 + contrast * g1**2 + noise * (more + more.T)


KINDS = ("even", "slower", "jumps", "echoes")


def cells_of(*windows):
    return np.stack([cells(one).values for one in windows])


@pytest.fixture(scope="module")
def some():
    return cells_of(*(window(kind, seed=seed) for seed in range(3) for kind in KINDS))


def test_the_weights_it_comes_with_load_strictly(tmp_path, model):
    assert isinstance(model, LagAge)
    assert sum(parameter.numel() for parameter in model.parameters()) == RECORD.num_parameters
    weights = load_file(RECORD.own_weights)
    assert sum(value.numel() for value in weights.values()) == RECORD.num_parameters, "no more is packed than is used"
    del weights["from_latent.0.bias"]
    save_file(weights, tmp_path / "less.safetensors")
    with pytest.raises(ArchiveError, match=r"'from_latent.0.bias': expected .*, found no such key"):
        load_model("lag_age", tmp_path / "less.safetensors")


def test_weights_of_another_network_are_refused_in_words_that_help(tmp_path):
    save_weights(tmp_path / "other.safetensors", build("ainerd2024").state_dict())
    with pytest.raises(ArchiveError, match=r"are these weights of model.variant: lag_age\?$"):
        load_model("lag_age", tmp_path / "other.safetensors")


def test_it_is_the_default_and_given_unless_it_is_to_be_trained(tmp_path):
    def given_weights(**model):
        return RunConfig.model_validate({"archive": "a", "source": {"path": "b"}, "model": model}).model.given_weights

    assert given_weights() == given_weights(variant="lag_age") == RECORD.own_weights
    assert given_weights(pretrained=False) is None
    assert given_weights(variant="ainerd2024") is None
    own = tmp_path / "own.safetensors"
    assert given_weights(weights=own) == given_weights(weights=own, pretrained=False) == own


def test_latents_have_unit_length_and_do_not_depend_on_other_maps(model, some):
    latents, errors, _ = embed(model, some)
    np.testing.assert_allclose(np.linalg.norm(latents, axis=1), 1, atol=1e-6)
    alone = [embed(model, some[i : i + 1]) for i in range(len(some))]
    np.testing.assert_array_equal(latents, np.concatenate([one[0] for one in alone]))
    np.testing.assert_array_equal(errors, np.concatenate([one[1] for one in alone]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_any_cells_have_finite_latents(seed, share):
    random = np.random.default_rng(seed)
    values = random.uniform(-1, 2, (1, *RECORD.shape)).astype(np.float32)
    values[:, 1:] = np.abs(values[:, 1:])
    values *= random.random((1, 1, *RECORD.shape[1:])) < share
    latents, errors, _ = embed(load_once(), values)
    assert np.linalg.norm(latents) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(errors).all()
    assert errors >= 0


def load_once(found=[]):  # noqa: B006  # hypothesis takes no fixture of a module
    found.append(found[0] if found else load_model("lag_age", RECORD.own_weights))
    return found[0]


@pytest.mark.parametrize(
    "change",
    [{"w": 256}, {"w": 64}, {"noise": 0.05}, {"contrast": 0.05, "noise": 0.0025}, {"seed": 5}],
    ids=["twice the frames", "half the frames", "noisier", "less contrast", "again"],
)
def test_what_is_no_dynamics_moves_a_map_less_than_what_is(model, change):
    """The copy of each kind is nearest to its own kind, and much nearer than the kinds are to each other."""
    plain, *_ = embed(model, cells_of(*(window(kind) for kind in KINDS)))
    copies, *_ = embed(model, cells_of(*(window(kind, **change) for kind in KINDS)))
    distances = np.linalg.norm(plain[:, None] - copies, axis=2)
    others = distances[~np.eye(len(KINDS), dtype=bool)]
    assert distances.argmin(axis=1).tolist() == list(range(len(KINDS)))
    assert np.median(np.diag(distances)) < 0.5 * np.median(others)


def test_errors_count_in_the_noise_of_each_cell(model, some):
    """Against NumPy: over the noise of a cell with a floor of 0.05 contrasts, and nothing where it is empty."""
    maps = torch.from_numpy(some)
    with torch.inference_mode():
        latents = model.encode(maps)
        drawn = model.reconstruct(latents).double().numpy()
        errors = model.errors(maps, latents).numpy()
    sureness = np.expm1(5 * some[:, 2].astype(np.float64))
    noise = np.full_like(sureness, np.inf)
    noise[sureness > 0] = np.sqrt(sureness[sureness > 0] ** -2 + 0.05**2)
    expected = np.abs(drawn - some[:, 0]) / noise / np.mean(sureness > 0, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(errors, expected, rtol=1e-3, atol=1e-4)
    assert (errors[sureness == 0] == 0).all()
    np.testing.assert_allclose(embed(model, some)[1], expected.mean(axis=(1, 2)), rtol=1e-3)


def test_a_map_without_entries_has_no_error(model):
    latents, errors, _ = embed(model, np.zeros((1, *RECORD.shape), np.float32))
    assert np.isfinite(latents).all()
    assert errors.tolist() == [0]


def test_a_reconstruction_is_nearer_to_the_map_than_those_of_other_kinds(model, some):
    with torch.inference_mode():
        drawn = model.reconstruct(model.encode(torch.from_numpy(some))).numpy()
    known = some[:, None, 2] > 0.5
    apart = (np.abs(some[:, None, 0] - drawn) * known).sum((2, 3)) / known.sum((2, 3))
    kind = np.arange(len(some)) % len(KINDS)
    same = kind[:, None] == kind
    assert np.median(apart[same]) < np.median(apart[~same])


@given(st.integers(0, 2**31))
def test_augmentation_shifts_along_the_lags_and_leaves_room(seed):
    image = np.random.default_rng(seed).uniform(0.1, 1, RECORD.shape).astype(np.float32)
    moved = LagAge.augment(image, np.random.default_rng(seed))
    matches = []
    for shift in range(-3, 4):
        expected = np.zeros_like(image)
        expected[:, max(shift, 0) : 60 + min(shift, 0)] = image[:, max(-shift, 0) : 60 - max(shift, 0)]
        matches.append(np.array_equal(moved, expected))
    assert sum(matches) == 1
    assert moved.shape == image.shape


class Cells:
    """Cells of five scans."""

    def __init__(self):
        self.values = cells_of(*(window(KINDS[i % 4], noise=0.03, seed=i) for i in range(10)))
        self.scan_ids = [f"scan{i // 2}" for i in range(10)]

    def __len__(self):
        return len(self.scan_ids)

    def __getitem__(self, index):
        return self.values[index]

    def column(self, name):
        raise AssertionError(f"it takes no column, asked for {name}")


def test_a_training_leaves_the_latents_and_betters_the_reconstructions(model, tmp_path):
    source = Cells()
    result = fit(source, "lag_age", TRAIN, tmp_path, "maps")
    save_weights(tmp_path / "trained.safetensors", result.weights)
    trained = load_model("lag_age", tmp_path / "trained.safetensors")
    before, after = embed(model, source.values), embed(trained, source.values)
    assert before[0].tobytes() == after[0].tobytes()
    held_out = [scan_id in result.validation_scans for scan_id in source.scan_ids]
    assert after[1][held_out].mean() <= before[1][held_out].mean()
    assert min(record["valid_l1"] for record in result.history) == pytest.approx(after[1][held_out].mean(), rel=1e-5)
    same = {key: torch.equal(value, model.state_dict()[key]) for key, value in result.weights.items()}
    assert {key.split(".")[0] for key, is_same in same.items() if not is_same} == {"from_latent", "decoder"}
    again = fit(source, "lag_age", TRAIN, tmp_path / "again", "maps")
    assert all(torch.equal(value, again.weights[key]) for key, value in result.weights.items())


def test_a_training_begins_with_the_weights_it_comes_with_whatever_the_seed(model):
    first = initial_model("lag_age", 7, iter(())).state_dict()
    assert all(torch.equal(value, first[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("shift", [0, 3])
def test_half_decays_are_told_nearer_than_the_cells_count_them(model, shift):
    """Decays of exponent 0.7, of which little is seen after the first lag: ln of the factor is off by half as much."""
    truths, told, counted = [], [], []
    for tau in (0.005, 0.01, 0.02, 0.05, 0.1, 0.3):
        lags = np.abs(np.subtract.outer(np.arange(128), np.arange(128))) / 128
        random = np.random.default_rng(shift)
        more = np.triu(random.normal(size=lags.shape), 1)
        found = cells(1 + 0.2 * np.exp(-2 * (lags / tau) ** 0.7) + 0.01 * (more + more.T))
        truths.append(128 * tau * (np.log(2) / 2) ** (1 / 0.7))
        counted.append(found.half_decay)
        factor, error = embed(model, found.values[None]).factors[0]
        told.append(found.half_decay * factor)
        assert 0 < error < 1
    off, before = (np.abs(np.log(np.divide(values, truths))) for values in (told, counted))
    assert off.mean() < 0.5 * before.mean(), (off, before)
