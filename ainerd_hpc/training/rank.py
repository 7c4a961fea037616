"""One rank of a data-parallel training, and torchrun's agent, which starts those of its node."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from ainerd_hpc.config import TrainConfig
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.site.allocation import place_by_srun
from ainerd_hpc.training.interruption import Interruption
from ainerd_hpc.training.job import Job
from ainerd_hpc.training.ranks import ALL, END, EPOCH, RANKS, SAID, STOP, STOPPED
from ainerd_hpc.training.trainer import train_here

_TO_CONNECT = timedelta(seconds=60)
_TO_ARRIVE = timedelta(minutes=10)
_FOR_EVER = timedelta(days=365)


class Place(NamedTuple):
    """The place of a rank among all of them, as its launcher says."""

    number: int
    size: int
    """Number of all ranks."""
    local: int
    """Number on its node."""


def agent(job_path: Path, address: str) -> None:
    """Become torchrun, which starts the ranks of this node."""
    from torch.distributed.run import main as torchrun

    job, _ = Job.read(job_path)
    train = job.train
    arrive(_connect(address), "nodes", train.nodes)
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # there is a store already
    asked = {
        "nnodes": train.nodes,
        "nproc-per-node": train.devices,
        "rdzv-backend": "c10d",
        "rdzv-endpoint": address,
        "rdzv-conf": "is_host=false",
        "local-addr": socket.gethostname(),
        "log-dir": job.folder,
    }
    options = [f"--{name}={value}" for name, value in asked.items()]
    torchrun([*options, "-m", "ainerd_hpc.training", "rank", str(job_path), address])


def rank(job_path: Path, address: str) -> None:
    """Train as one of the ranks, and end this process."""
    job, recipe = Job.read(job_path)
    store = _connect(address)
    place = find_place(job.train)
    check_place(place, job.train)
    arrive(store, RANKS, job.ranks)
    _settle(place, job.train, address)
    with Interruption(job.train.checkpoint_every) as interruption:
        threading.Thread(target=_watch, args=(store, interruption), daemon=True).start()
        train_here(job, recipe.build(), _print_progress, interruption, in_ranks=True)
        if interruption.is_asked and place.number == 0:
            print(json.dumps([STOPPED]))


def run(role: Callable[[Path, str], None], job_path: Path, address: str) -> None:
    """Do it, and leave at once: at an orderly exit torch aborts now and then, when all work is done."""
    status = 1
    try:
        role(job_path, address)
        status = 0
    except AinerdError as error:
        print(f"{SAID}{error}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def find_place(train: TrainConfig) -> Place:
    """The place of this process.

    Raises
    ------
    AinerdError
        The launcher does not say.
    """
    if train.launcher == "mpiexec":
        return _place_by_mpi()
    if train.launcher == "srun":
        return Place(*(place_by_srun() or (0, 1, 0)))
    return Place(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))


def _place_by_mpi() -> Place:
    """MPI is left again: it only counts the ranks."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise AinerdError(
            f"train: launcher mpiexec: expected mpi4py with an MPI, found {text}; "
            "pip install 'ainerd-hpc[mpi]', or set train.launcher"
        ) from None
    world = MPI.COMM_WORLD
    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    place = Place(world.Get_rank(), world.Get_size(), node.Get_rank())
    node.Free()
    MPI.Finalize()
    return place


_ADVICE = {
    "torchrun": "run again",
    "srun": "train.spread has to start the ranks with srun",
    "mpiexec": "train.spread has to start the ranks with the mpiexec of the MPI that mpi4py loads, "
    "or with srun and the --mpi that it knows (MPICH: pmi2)",
}


def check_place(place: Place, train: TrainConfig) -> None:
    """Refuse what would train alone, or with another number of ranks than was asked for.

    Raises
    ------
    AinerdError
        With launcher, expected and found numbers.
    """
    expected, where = train.nodes * train.devices, f"train: launcher {train.launcher}"
    if place.size != expected:
        raise AinerdError(f"{where}: expected {expected} ranks, found {place.size}; {_ADVICE[train.launcher]}")
    if place.local >= train.devices:
        found = f"number {place.local} (from 0) on {socket.gethostname()}"
        raise AinerdError(f"{where}: expected {train.devices} ranks on a node, found {found}; correct train.spread")


def arrive(store: TCPStore, who: str, expected: int, patience: timedelta = _TO_ARRIVE) -> None:
    """Wait until all of them are here.

    Raises
    ------
    AinerdError
        There are more, or after `patience` fewer.
    """
    if (found := store.add(who, 1)) == expected:
        store.set(ALL.format(who), "")
    try:
        if found <= expected:
            store.wait([ALL.format(who)], patience)
            return
    except DistError:
        found = store.add(who, 0)
    raise AinerdError(f"train: expected {expected} {who} to begin, found {found}; correct train.spread")


def _connect(address: str) -> TCPStore:
    host, _, port = address.rpartition(":")
    try:
        return TCPStore(host, int(port), is_master=False, timeout=_TO_CONNECT)
    except DistError as error:
        raise AinerdError(
            f"train: {socket.gethostname()}: expected to reach {address}, where the ranks are started from, found: "
            f"{str(error).splitlines()[0]}; names of nodes have to resolve, or set environment.interface of the site"
        ) from None


def _watch(store: TCPStore, interruption: Interruption) -> None:
    """Stop when the starting process asks for it; end with it."""
    try:
        store.wait([STOP], _FOR_EVER)
        interruption.ask()
        store.wait([END], _FOR_EVER)
    finally:
        os._exit(1)


def _settle(place: Place, train: TrainConfig, address: str) -> None:
    """Tell torch and Lightning, as torchrun does, and with the store of the starting process to meet at."""
    host, _, port = address.rpartition(":")
    told = {
        "RANK": place.number,
        "WORLD_SIZE": place.size,
        "LOCAL_RANK": place.local,
        "LOCAL_WORLD_SIZE": train.devices,
        "GROUP_RANK": place.number // train.devices,
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
        "TORCHELASTIC_USE_AGENT_STORE": True,
    }
    os.environ.update({name: str(value) for name, value in told.items()})


def _print_progress(epoch: int, epochs: int, train_l1: float, valid_l1: float) -> None:
    print(json.dumps([EPOCH, epoch, epochs, train_l1, valid_l1]), flush=True)
