"""The networks by name."""

from __future__ import annotations

from collections.abc import Mapping

from ainerd_hpc.errors import ConfigError
from ainerd_hpc.models.network import Network
from ainerd_hpc.types import CELLS

NETWORKS: Mapping[str, Network] = {
    "lag_age": Network(
        "ainerd_hpc.models.lag_age:LagAge",
        num_parameters=820_387,
        latent_size=32,
        pass_bytes={"32-true": 2**18, "bf16-mixed": 2**17},
        seconds_to_train={"32-true": 0.002, "bf16-mixed": 0.002},
        seconds_to_embed=0.0005,
        reads="cells",
        shape=CELLS,
        maps_at_a_time=32,
        corrects=("half_decay",),
        comes_with="lag_age.safetensors",
        same_kind=0.77,
        known_error=3.8,
    ),
    "ainerd2024": Network(
        "ainerd_hpc.models.ainerd2024:Ainerd2024",
        num_parameters=379_665,
        latent_size=64,
        pass_bytes={"32-true": 32 * 2**20, "bf16-mixed": 20 * 2**20},
        seconds_to_train={"32-true": 0.020, "bf16-mixed": 0.013},
        seconds_to_embed=0.011,
        can_decode=True,
    ),
}


def network(name: str) -> Network:
    """A network by its name.

    Raises
    ------
    ConfigError
        If there is no such network.
    """
    if name not in NETWORKS:
        raise ConfigError(f"model variant '{name}': expected one of {', '.join(NETWORKS)}; correct model.variant")
    return NETWORKS[name]
