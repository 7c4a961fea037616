"""The networks: against the published figures, and against plain NumPy."""

import os
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ainerd_hpc.errors import ArchiveError
from ainerd_hpc.models.embedding import decode_latents, embed
from ainerd_hpc.models.registry import network as record
from ainerd_hpc.models.weights import build, initial_model, load_model, load_weights, save_weights
from tests.support.places import SHARED

PUBLISHED = SHARED / "ainerd-2024"
KEYS = [
    f"{part}.{number}.{kind}"
    for part, numbers in [
        ("encoder", [0, 3, 7, 10, 14, 17]),
        ("bottleneck", [1, 3]),
        ("decoder1", [0, 3, 7, 10, 14, 17, 21]),
    ]
    for number in numbers
    for kind in ("weight", "bias")
]


@pytest.fixture
def published():
    if not PUBLISHED.exists():
        pytest.skip("the published AI-NERD data are not in ../shared/data/ainerd-2024")
    return load_model("ainerd2024", PUBLISHED / "autoencoder_weights.npz")


@pytest.fixture
def network():
    torch.manual_seed(3)
    return build("ainerd2024")


@pytest.fixture
def maps():
    rng = np.random.default_rng(5)
    lag = np.abs(np.subtract.outer(np.arange(256), np.arange(256)))
    return np.stack([np.exp(-lag / tau) for tau in rng.uniform(3, 200, 5)]).astype(np.float32)


def test_parameters_and_keys_are_the_published_ones(network):
    assert sum(parameter.numel() for parameter in network.parameters()) == 379_665
    assert record("ainerd2024").num_parameters == 379_665
    assert list(network.state_dict()) == KEYS


@pytest.mark.published
def test_published_weights_reproduce_the_published_errors(published):
    target = np.load(PUBLISHED / "c2_target.npy")
    latents, reconstruction_l1, _ = embed(published, target[None].astype(np.float32))
    difference = decode_latents(published, latents)[0] - target
    assert round(float(np.abs(difference).mean()), 4) == 0.0368
    assert round(float((difference**2).mean()), 5) == 0.00237
    np.testing.assert_allclose(reconstruction_l1, np.abs(difference).mean(), rtol=1e-5)


@pytest.mark.published
@pytest.mark.slow
def test_published_latents_decode_to_maps_of_the_stated_range(published):
    latents = np.load(PUBLISHED / "latents.npy")
    maps = decode_latents(published, latents)
    assert maps.shape == (900, 256, 256)
    assert maps.dtype == np.float32
    assert maps.min() == 0.0
    assert round(float(maps.max()), 2) == 1.14
    assert int((latents > 0).any(axis=0).sum()) == 44
    dark = maps.max(axis=(1, 2))
    assert dark.argmin() == 779
    assert round(float(dark[779]), 2) == 0.17


@pytest.mark.published
def test_reencoding_the_decoded_maps_keeps_the_main_coordinate(published):
    """The published network is not idempotent (a latent moves by half of a typical distance), but its axis is kept."""
    latents = np.load(PUBLISHED / "latents.npy")[::15]
    again, *_ = embed(published, decode_latents(published, latents))
    axis = np.linalg.svd(latents - latents.mean(axis=0), full_matrices=False)[2][0]
    assert np.corrcoef(latents @ axis, again @ axis)[0, 1] > 0.99


def _convolve(image, weight, bias):
    """3x3, zero-padded, float64, with SciPy's correlation."""
    from scipy.ndimage import correlate

    planes = [
        sum(correlate(image[i], weight[o, i], mode="constant") for i in range(len(image))) for o in range(len(weight))
    ]
    return np.maximum(np.stack(planes) + bias[:, None, None], 0)


def _pool(image):
    channels, height, width = image.shape
    return image.reshape(channels, height // 4, 4, width // 4, 4).max(axis=(2, 4))


def test_encoding_equals_plain_numpy(network, maps):
    weights = {key: value.double().numpy() for key, value in network.state_dict().items()}
    image = maps[:1].astype(np.float64)
    for first, second in [(0, 3), (7, 10), (14, 17)]:
        for number in (first, second):
            image = _convolve(image, weights[f"encoder.{number}.weight"], weights[f"encoder.{number}.bias"])
        image = _pool(image)
    expected = np.maximum(weights["bottleneck.1.weight"] @ image.ravel() + weights["bottleneck.1.bias"], 0)
    np.testing.assert_allclose(embed(network, maps[:1])[0][0], expected, rtol=1e-4, atol=1e-6)


def _upsample(image):
    """Bilinear, four times as large: between the centres of pixels, constant beyond the outer ones."""
    size = image.shape[-1]
    position = np.clip((np.arange(4 * size) + 0.5) / 4 - 0.5, 0, size - 1)
    weights = np.maximum(1 - np.abs(position[:, None] - np.arange(size)), 0)
    return weights @ image @ weights.T


def test_a_loss_in_training_equals_plain_numpy(network, maps):
    """Of a network that begins: the mean absolute difference, without dropout."""
    model = initial_model("ainerd2024", 5, maps)
    weights = {key: value.double().numpy() for key, value in model.state_dict().items()}
    latent = embed(model, maps[1:2])[0][0]
    model.train()
    loss = model.loss(torch.from_numpy(maps[1:3])[:, None])
    image = np.maximum(weights["bottleneck.3.weight"] @ latent + weights["bottleneck.3.bias"], 0).reshape(64, 4, 4)
    for first, second in [(0, 3), (7, 10), (14, 17)]:
        for number in (first, second):
            image = _convolve(image, weights[f"decoder1.{number}.weight"], weights[f"decoder1.{number}.bias"])
        image = _upsample(image)
    image = _convolve(image, weights["decoder1.21.weight"], weights["decoder1.21.bias"])
    assert loss.shape == (2,)
    assert loss[0].item() == pytest.approx(np.abs(image[0] - maps[1]).mean(), rel=1e-4)


@pytest.mark.parametrize("darkness", [1, 1000])
def test_first_weights_follow_the_recipe(maps, darkness):
    """He: normal, of variance 2 / fan-in, biases 0; the head last: a tenth of 1 / sqrt(288), at the maps' mean."""
    maps = maps / np.float32(darkness)
    state = torch.get_rng_state()
    weights = initial_model("ainerd2024", 5, maps).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    build("ainerd2024")
    for key in KEYS[::2]:
        drawn = torch.empty_like(weights[key]).normal_() * np.sqrt(2 / weights[key][0].numel())
        if key != KEYS[-2]:
            torch.testing.assert_close(weights[key], drawn)
            assert not weights[key.replace("weight", "bias")].any()
    torch.testing.assert_close(weights[KEYS[-2]], torch.empty_like(weights[KEYS[-2]]).normal_() * 0.1 / np.sqrt(288))
    assert weights[KEYS[-1]].item() == pytest.approx(max(maps.mean(dtype=np.float64), 0.05), rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_map_s_result_depends_neither_on_its_batch_nor_on_the_threads(network, maps, batch_size):
    alone = [embed(network, maps[i : i + 1]) for i in range(len(maps))]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            latents, reconstruction_l1, _ = embed(network, maps, batch_size=batch_size)
            for i, (latent, l1, _) in enumerate(alone):
                assert latents[i].tobytes() == latent[0].tobytes()
                assert reconstruction_l1[i] == l1[0]
    finally:
        torch.set_num_threads(before)


def test_embedding_is_in_evaluation_mode_and_leaves_its_input_alone(network, maps):
    network.train()
    copy = maps.copy()
    first, second = embed(network, maps), embed(network, maps)
    assert not network.training
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(maps, copy)


def test_no_maps_give_no_latents(network):
    latents, reconstruction_l1, _ = embed(network, np.empty((0, 256, 256), np.float32))
    assert latents.shape == (0, 64)
    assert reconstruction_l1.shape == (0,)
    assert decode_latents(network, latents).shape == (0, 256, 256)


@pytest.mark.parametrize(
    ("call", "shape"), [(embed, (2, 128, 128)), (embed, (256, 256)), (decode_latents, (2, 63)), (decode_latents, (64,))]
)
def test_wrong_shapes_are_refused(network, call, shape):
    with pytest.raises(ValueError, match=r"expected .* found"):
        call(network, np.zeros(shape, np.float32))


def test_weights_survive_saving_and_the_bytes_are_the_same(network, tmp_path):
    weights = network.state_dict()
    save_weights(tmp_path / "a.safetensors", weights)
    save_weights(tmp_path / "b.safetensors", dict(reversed(weights.items())))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = load_model("ainerd2024", tmp_path / "a.safetensors").state_dict()
    assert all(torch.equal(weights[key], again[key]) for key in KEYS)


def _write(path, network, **changes):
    arrays = {key: value.numpy() for key, value in network.state_dict().items()} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("encoder.3.bias", None, "'encoder.3.bias': expected (16,), found no such key"),
        ("extra", np.zeros(2, np.float32), "'extra': expected no such key, found (2,)"),
        ("encoder.3.bias", np.zeros(15, np.float32), "'encoder.3.bias': expected (16,), found (15,)"),
        ("encoder.3.bias", np.zeros(16), "'encoder.3.bias': expected float32, found torch.float64"),
        ("encoder.3.bias", np.full(16, np.nan, np.float32), "'encoder.3.bias': expected finite weights"),
        ("encoder.3.bias", np.array(["x"]), "expected arrays of numbers, found <U1"),
        ("encoder.3.bias", np.array([{}]), "Object arrays cannot be loaded when allow_pickle=False"),
    ],
)
def test_wrong_weights_are_refused_in_one_line(network, tmp_path, key, value, message):
    path = tmp_path / "weights.npz"
    _write(path, network, **{key: value})
    with pytest.raises(ArchiveError) as error:
        load_model("ainerd2024", path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["none.npz", "none.safetensors", "junk.npz", "junk.safetensors", "weights.pt"])
def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path, name):
    (tmp_path / "junk.npz").write_bytes(b"junk")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ArchiveError) as error:
        load_weights(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_truncated_weights_are_refused(network, tmp_path):
    _write(tmp_path / "a.npz", network)
    save_file({"x": torch.zeros(100)}, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ArchiveError, match="cannot read the weights"):
            load_weights(tmp_path / name)


def test_a_pickle_inside_an_npz_never_runs(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    np.save(tmp_path / "x.npy", np.array([Bomb()], object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as file:
        file.write(tmp_path / "x.npy", "x.npy")
    with pytest.raises(ArchiveError):
        load_weights(tmp_path / "bomb.npz")
    assert not (tmp_path / "ran").exists()
