"""python -m ainerd_hpc.pretraining FILE [--each 3000] [--compositions 12000] [--epochs 12] [--seed 0] ...

Makes the weights that `lag_age` comes with, from simulated samples alone: about half an hour on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ainerd_hpc.models.weights import save_weights
from ainerd_hpc.pretraining.learning import learn, learn_half_decay
from ainerd_hpc.pretraining.samples import make_samples
from ainerd_hpc.publishing import publishing


def main() -> None:
    """Draw samples, learn, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    for name, value in {
        "each": 3000,
        "compositions": 12_000,
        "epochs": 12,
        "seed": 0,
        "workers": 2,
        "threads": 2,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    samples = make_samples(options.each, options.compositions, options.seed, options.workers)
    print(f"{len(samples.label)} samples", flush=True)
    torch.set_num_threads(options.threads)
    model = learn(samples, options.epochs, options.seed, _tell)
    learn_half_decay(model, samples, options.epochs, options.seed, _tell_half_decay)
    with publishing(options.file) as temporary:
        save_weights(temporary, model.state_dict())


def _tell(epoch: int, kinds: float, views: float, reconstruction: float) -> None:
    print(f"epoch {epoch}: kinds {kinds:.3f}, views {views:.3f}, reconstruction {reconstruction:.4f}", flush=True)


def _tell_half_decay(epoch: int, loss: float) -> None:
    print(f"epoch {epoch}: half decay {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
