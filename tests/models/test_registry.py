"""The contract of the networks: a toy goes through training and embedding by it alone; what the records state is so."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.tables import read_table
from ainerd_hpc.config import RunConfig, TrainConfig
from ainerd_hpc.errors import AinerdError, ConfigError
from ainerd_hpc.loading import load
from ainerd_hpc.models.embedding import decode_latents, embed
from ainerd_hpc.models.model import Model
from ainerd_hpc.models.network import Network
from ainerd_hpc.models.registry import NETWORKS, network
from ainerd_hpc.models.weights import build, load_model, save_weights
from ainerd_hpc.pipeline import Run
from ainerd_hpc.training import fit

VARIANT = "toy"


class Toy(Model):
    """The squared difference between gain x mean of a map and log of its seconds per pixel; latents: these two."""

    def __init__(self, network):
        super().__init__(network)
        self.gain = nn.Parameter(torch.zeros(()))

    def initialise(self, sample):
        nn.init.constant_(self.gain, float(np.max([image.max() for image in sample])))

    @staticmethod
    def augment(image, chance):
        return image + np.float32(chance.integers(4))

    def encode(self, maps, *columns):
        return torch.stack([self.gain * maps.mean(dim=(1, 2, 3)), columns[0].log()], dim=1)

    def errors(self, maps, latents):
        return (latents[:, :1] - latents[:, 1:]) ** 2


@pytest.fixture
def toy(monkeypatch):
    record = Network(
        f"{__name__}:Toy",
        num_parameters=1,
        latent_size=2,
        pass_bytes={"32-true": 2**20, "bf16-mixed": 2**20},
        seconds_to_train={"32-true": 0.5, "bf16-mixed": 0.25},
        seconds_to_embed=0.125,
        columns=("seconds_per_pixel",),
    )
    monkeypatch.setitem(NETWORKS, VARIANT, record)
    return record


class BrightMaps:
    """Maps of scans a, b, ...: each of one value, and with one value of its column."""

    def __init__(self):
        self.scan_ids = list("abcdefgh")

    def __len__(self):
        return len(self.scan_ids)

    def __getitem__(self, index):
        return np.full((256, 256), index / 8, np.float32)

    def column(self, name):
        assert name == "seconds_per_pixel"
        return np.arange(1, 9, dtype=np.float32)


def _added(seed, epoch, index):
    """What the toy's augmentation adds: the documented counter, written out."""
    counter = [0, 0, 1 + index, epoch]
    return np.random.Generator(np.random.Philox(key=seed, counter=counter)).integers(4)


@pytest.mark.usefixtures("toy")
def test_a_toy_is_trained_and_embeds_by_the_contract_alone(tmp_path):
    """One optimiser step over six maps in two parts: the loss before it, Adam's step, and the error after it."""
    source = BrightMaps()
    train = TrainConfig(epochs=1, batch_size=8, validation_share=0.2, learning_rate=0.01, seed=2, threads=1)
    result = fit(source, VARIANT, train, tmp_path, "maps")
    held_out = [i for i, scan_id in enumerate(source.scan_ids) if scan_id in result.validation_scans]
    trained = [i for i in range(8) if i not in held_out]
    assert len(held_out) == 2
    mean, target = np.arange(8) / 8, np.log(np.arange(1, 9))
    first = mean[trained].max()
    augmented = mean[trained] + [_added(2, 0, i) for i in trained]
    difference = first * augmented - target[trained]
    assert result.history[0]["train_l1"] == pytest.approx(np.mean(difference**2), rel=1e-5)
    step = 0.01 * 0.5 * np.sign(np.sum(difference * augmented))  # the only step: halfway up, where Adam takes the sign
    gain = result.weights["gain"].item()
    assert gain == pytest.approx(first - step, rel=1e-5)

    save_weights(tmp_path / "toy.safetensors", result.weights)
    model = load_model(VARIANT, tmp_path / "toy.safetensors")
    maps = np.stack([source[i] for i in range(8)])
    latents, errors, _ = embed(model, maps, [source.column("seconds_per_pixel")])
    np.testing.assert_allclose(latents, np.stack([gain * mean, target], axis=1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(errors, (gain * mean - target) ** 2, rtol=1e-4)
    assert result.history[0]["valid_l1"] == pytest.approx(errors[held_out].mean(), rel=1e-5)


@pytest.mark.usefixtures("toy")
def test_a_toy_goes_through_the_stages(simulated_source, make_config):
    config = make_config(simulated_source, model={"variant": VARIANT}, train={"epochs": 2, "threads": 1})
    Run(config, until="embed").execute()
    archive = Archive(config.archive)
    table = read_table(archive.embedding_path("default"))
    index = read_table(archive.map_index_path)
    assert table["map_id"].tolist() == index["map_id"].tolist()
    latents = np.stack(table["latent"].to_list())
    np.testing.assert_allclose(latents[:, 1], np.log(index["seconds_per_pixel"]), rtol=1e-5)
    np.testing.assert_allclose(table["reconstruction_l1"], (latents[:, 0] - latents[:, 1]) ** 2, rtol=1e-4)


@pytest.mark.usefixtures("toy")
def test_latents_of_another_network_are_refused_by_one_that_cannot_decode(tmp_path, make_config):
    source = tmp_path / "source"
    source.mkdir()
    for name, values in [("latents", np.ones((2, 64), np.float32)), ("sector", [0, 1]), ("scan_start_s", [5.0, 5.0])]:
        np.save(source / f"{name}.npy", values)
    weights = tmp_path / "toy.safetensors"
    save_weights(weights, build(VARIANT).state_dict())
    config = make_config(source, model={"variant": VARIANT, "weights": weights})
    config = config.model_copy(update={"source": config.source.model_copy(update={"frame_time": 0.1})})
    with pytest.raises(AinerdError):
        Run(config, until="correlate").execute()
    (problem,) = Journal(config.archive).problems
    assert problem.reason.endswith("found 'toy'; set model.variant to the one that made them")


def test_the_costs_of_a_toy(toy):
    """By hand: 144 MiB of the libraries, 64 read ahead, copies of one parameter, of four maps, and three of a batch."""
    one_map = 256 * 256 * 4
    assert toy.training_bytes(8, "32-true") == (144 + 64) * 2**20 + 40 + 4 * 2**20 + 3 * 8 * one_map
    assert toy.training_bytes(2, "32-true") == (144 + 64) * 2**20 + 40 + 2 * 2**20 + 3 * 2 * one_map
    assert toy.embedding_bytes() == 144 * 2**20 + 8 + 2**20 + 3 * one_map
    assert toy.training_seconds(10, 3, "32-true", threads=5) == pytest.approx(3.0)
    assert toy.training_seconds(10, 3, "bf16-mixed", threads=1) == pytest.approx(7.5)
    assert toy.embedding_seconds(16) == pytest.approx(2.0)


@pytest.mark.parametrize("variant", NETWORKS)
def test_what_a_record_states_is_so(variant):
    record, model = network(variant), build(variant)
    maps = np.random.default_rng(1).random((2, *record.shape), dtype=np.float32)
    latents, errors, _ = embed(model, maps, [np.ones(2, np.float32) for _ in record.columns])
    assert sum(parameter.numel() for parameter in model.parameters()) == record.num_parameters
    assert latents.shape == (2, record.latent_size)
    assert np.isfinite(errors).all()
    assert (type(model).decode is not Model.decode) == record.can_decode
    if record.can_decode:
        assert decode_latents(model, latents).shape == maps[:, 0].shape
    with pytest.raises(ValueError, match=rf"^expected {record.reads} of shape \(.*\), found \(7, 7\)$"):
        embed(model, np.ones((2, 7, 7), np.float32))


def test_an_unknown_variant_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^model variant 'toy': expected one of lag_age, ainerd2024; correct"):
        build(VARIANT)
    path = tmp_path / "run.yaml"
    path.write_text("archive: a\nsource:\n  path: b\nmodel:\n  variant: toy\n")
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value) == f"{path}, line 5: 'model.variant': expected one of lag_age, ainerd2024, found 'toy'"


def test_the_schema_lists_the_networks():
    entry = RunConfig.model_json_schema()["$defs"]["ModelConfig"]["properties"]["variant"]
    assert entry["enum"] == list(NETWORKS) == ["lag_age", "ainerd2024"]


def test_the_records_are_known_without_torch():
    code = "import sys, ainerd_hpc.models.registry as r; r.network('lag_age'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
