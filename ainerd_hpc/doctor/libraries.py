"""Python, the libraries, torch with its GPUs, and MPI."""

from __future__ import annotations

import glob
import json
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ainerd_hpc import __version__
from ainerd_hpc.doctor.finding import Finding, role, said_by

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PACKAGE = "ainerd-hpc"
_GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd")
_TO_LOAD = 45.0
_NOT_NEEDED = "not needed unless ddp.launcher: mpiexec"


def python_and_libraries() -> Iterator[Finding]:
    """Against what this package asks for."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    about = metadata.metadata(_PACKAGE)
    version, wanted = platform.python_version(), about["Requires-Python"] or ""
    good = version in SpecifierSet(wanted)
    step = "" if good else f"make an environment with Python {wanted}"
    yield Finding(
        "Python", "ok" if good else "failed", f"{version} at {sys.executable}, ainerd_hpc {__version__}", step
    )
    required = [Requirement(text) for text in metadata.requires(_PACKAGE) or ()]
    required = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = list(filter(None, map(_wrong, required)))
    step = "pip install --upgrade ainerd-hpc, in this environment" if wrong else ""
    found = ", ".join(wrong) or f"{len(required)}, all of versions that go together"
    yield Finding("libraries", "failed" if wrong else "ok", found, step)


def _wrong(one: Requirement) -> str:
    """What is wrong with a library; empty where nothing is."""
    try:
        found = metadata.version(one.name)
    except metadata.PackageNotFoundError:
        found = "none"
    fits = found != "none" and one.specifier.contains(found, prereleases=True)
    return "" if fits else f"{one.name}: expected {one.specifier or 'any'}, found {found}"


def torch_and_gpus() -> Iterator[Finding]:
    """Whether torch can be loaded, and computes on each GPU."""
    devices = [path for pattern in _GPU_DEVICES for path in glob.glob(pattern)]
    status, said = said_by(role("torch"), _TO_LOAD)
    if status == 124:
        step = "put the environment on a faster disk, or try again when less runs here"
        yield Finding("torch", "warning", f"is not loaded after {_TO_LOAD:.0f} s", step)
        return
    if status:
        yield Finding("torch", "failed", f"cannot be loaded: {said}", "install it again, for this machine")
        return
    yield judged_torch(json.loads(said.splitlines()[-1]), len(devices))


def judged_torch(facts: dict[str, Any], num_devices: int) -> Finding:
    """The finding from `torch_facts`, on a machine with so many device files of GPUs."""
    built = f"{facts['version']}, built for {facts['built_for']}"
    gpus = facts["gpus"]
    if broken := [gpu for gpu in gpus if gpu["error"]]:
        found = "; ".join(f"{gpu['name']} (capability {gpu['capability']}): {gpu['error']}" for gpu in broken)
        return Finding("torch", "failed", f"{built}: {found}", "install a torch that is built for these GPUs")
    if gpus:
        names = ", ".join(f"{gpu['name']} (capability {gpu['capability']})" for gpu in gpus)
        return Finding("torch", "ok", f"{built}; {len(gpus)} GPUs compute: {names}")
    if num_devices and facts["built_for"] == "CPUs":
        return Finding("torch", "warning", f"{built}, beside GPUs", "install a torch with CUDA or ROCm to use them")
    if num_devices:
        return Finding("torch", "warning", f"{built}, sees none of the GPUs", "see nvidia-smi: driver, permissions")
    return Finding("torch", "ok", f"{built}; no GPUs here")


def torch_facts() -> dict[str, Any]:
    """Version of torch, what it is built for, each GPU with the error of a product on it; in a process of its own."""
    import torch

    gpus = []
    for number in range(torch.cuda.device_count()):
        facts = {"name": torch.cuda.get_device_name(number), "error": ""}
        facts["capability"] = ".".join(map(str, torch.cuda.get_device_capability(number)))
        try:
            ones = torch.ones((64, 64), device=f"cuda:{number}")
            if float((ones @ ones).sum()) != 64**3:
                facts["error"] = "a product is wrong"
        except RuntimeError as error:
            facts["error"] = " ".join(str(error).split())[:120]
        gpus.append(facts)
    version, hip = torch.version, getattr(torch.version, "hip", None)
    built_for = f"CUDA {version.cuda}" if version.cuda else f"ROCm {hip}" if hip else "CPUs"
    return {"version": torch.__version__, "built_for": built_for, "gpus": gpus}


def mpi(is_needed: bool) -> Iterator[Finding]:
    """Two ranks on this machine. On login nodes MPI is often forbidden: a job counts."""
    try:
        version = metadata.version("mpi4py")
    except metadata.PackageNotFoundError:
        step = "pip install mpi4py mpich" if is_needed else ""
        yield Finding("MPI", "failed" if is_needed else "skipped", f"no mpi4py: {_NOT_NEEDED}", step)
        return
    status, said = said_by([own_mpiexec(), "-n", "2", *role("mpi")], 30)
    sizes = [json.loads(text) for text in re.findall(r"\[\d+, \d+, \"[^\"]*\"\]", said)] if status == 0 else []
    if sorted(number for number, *_ in sizes) == [0, 1]:
        yield Finding("MPI", "ok", f"mpi4py {version} with {sizes[0][2]}: 2 ranks by {own_mpiexec()}")
        return
    found = said if status else f"{len(sizes)} ranks of size {', '.join(str(size) for _, size, _ in sizes)}"
    step = "use the mpiexec of the MPI that mpi4py loads: pip install mpich, or what a job says below"
    yield Finding("MPI", "warning", f"2 ranks by {own_mpiexec()}: {found}; {_NOT_NEEDED}", step)


def mpi_facts() -> list[object]:
    """Number of this rank, how many there are, and of which MPI."""
    from mpi4py import MPI

    library = " ".join(MPI.Get_library_version().splitlines()[0].replace("Version:", "").split())
    return [MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size(), library.strip("\0")]


def own_mpiexec() -> str:
    """The one beside this Python, which belongs to the MPI that mpi4py prefers; else any."""
    own = Path(sys.executable).with_name("mpiexec")
    return str(own) if own.exists() else shutil.which("mpiexec") or "mpiexec"
