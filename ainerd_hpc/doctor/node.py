"""What a job finds on its node, told in a file to the process that waits for it."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ainerd_hpc import __version__
from ainerd_hpc.console import size_text
from ainerd_hpc.doctor.files import clock, look_at_lock, scratch
from ainerd_hpc.doctor.finding import Check, Finding, examined, role, said_by
from ainerd_hpc.doctor.libraries import own_mpiexec, torch_and_gpus
from ainerd_hpc.doctor.machine import threads
from ainerd_hpc.doctor.ranks import address_of
from ainerd_hpc.publishing import write_json
from ainerd_hpc.site.allocation import SPREAD, cores_here, find_allocation, spread_command

ASKED, LOCK, ANSWER = "asked.json", "locked", "answer.json"
"""Files in the folder of a trial: what is wanted, a lock that is held, what was found."""
_TO_RUN = 25.0
"""Seconds that two ranks may take."""
_SLOW = 100e6
"""Bytes per second between nodes; a gigabit has 118."""


def answer(folder: Path) -> None:
    """Look at this node, and publish what is found as soon as it is."""
    folder = folder.absolute()  # what starts processes on nodes may start them elsewhere
    asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    findings: list[dict[str, Any]] = []
    told = {"host": socket.gethostname(), "findings": findings, "is_complete": False}
    for finding in examined(_checks(folder, asked)):
        findings.append(asdict(finding))
        write_json(folder / ANSWER, told)
    write_json(folder / ANSWER, {**told, "is_complete": True})


def _checks(folder: Path, asked: Mapping[str, Any]) -> list[Check]:
    """Those of a job; where it is one of several kinds, the first looks at what is the same for all."""
    checks = [Check("ranks", lambda: _ranks(folder, asked))]
    if asked["gpus"]:
        checks.append(Check("torch", torch_and_gpus, 50))
    if not asked["is_first"]:
        return checks
    return [
        Check("program", lambda: _program(asked)),
        Check("clock", lambda: clock(folder)),
        Check("lock", lambda: _lock(folder)),
        Check("scratch", scratch),
        Check("threads", threads),
        Check("interface", lambda: _interface(asked)),
        *checks,
    ]


def _program(asked: Mapping[str, Any]) -> Iterator[Finding]:
    found = f"ainerd_hpc {__version__}, Python {sys.version.split()[0]} at {sys.executable}; sees the archive's folder"
    if __version__ != asked["version"]:
        step = f"install {asked['version']} there, or correct environment.activate or environment.command"
        yield Finding("program", "failed", found, step)
    else:
        yield Finding("program", "ok", found)


def _lock(folder: Path) -> Iterator[Finding]:
    found = look_at_lock(folder / LOCK)
    if found == "held":
        yield Finding("lock", "ok", "what the host of this command holds is held there too")
    else:
        step = "put the archive on a file system whose nodes share locks, else start runs from one node only"
        yield Finding("lock", "failed", "what the host of this command holds is free there", step)


def _interface(asked: Mapping[str, Any]) -> Iterator[Finding]:
    name, address = asked["interface"], address_of(asked["interface"])
    found = f"{name or socket.gethostname()} is {address or 'without an IPv4 address'}"
    step = "set environment.interface to the network between the nodes: `ip -4 addr` there shows what there is"
    if not address:
        yield Finding("interface", "failed", found, step)
    elif address.startswith("127."):
        yield Finding("interface", "warning", f"{found}, which other nodes cannot reach", step)
    else:
        yield Finding("interface", "ok", found)


def _ranks(folder: Path, asked: Mapping[str, Any]) -> Iterator[Finding]:
    """Two processes over the nodes of the job, as a training starts its ranks; one a node, as it starts torchrun."""
    found = find_allocation()
    nodes = min(2, max(1, len(found.nodes))) if found else 1
    if nodes < asked["nodes"]:
        yield Finding("ranks", "failed", f"expected {asked['nodes']} nodes, found {nodes}", "correct ddp.nodes")
        return
    per_node = 1 if asked["spread"] and asked["launcher"] == "torchrun" else 2 // nodes
    program, *words = _starting(nodes, per_node, asked["spread"], asked["launcher"])
    part = role("rank", str(folder), asked["interface"], str(nodes * per_node))
    status, said = said_by([program, *words, *part], _TO_RUN)
    told = _read_all(folder, "rank.*.json")
    yield judged_ranks(told, nodes, per_node, program, asked["launcher"], said if status else "")
    yield judged_mpi([one["mpi"] for one in _read_all(folder, "mpi.*.json")], program, asked["launcher"] == "mpiexec")
    if nodes == 2:
        measured = [*_read_all(folder, "network.json"), {"error": "no answer"}]
        yield judged_network(measured[0], [one["host"] for one in told], asked["interface"])


def _starting(nodes: int, per_node: int, spread: Sequence[str], launcher: str) -> list[str]:
    """The words that start the processes on the nodes."""
    template = spread or (SPREAD["pbs"] if launcher == "mpiexec" else ())
    os.environ.pop("SRUN_CPUS_PER_TASK", None)  # of a process that has the node for itself
    words = spread_command(template, nodes=nodes, per_node=per_node, cores=max(1, cores_here() // per_node))
    return [own_mpiexec(), *words[1:]] if words[0] == "mpiexec" else words


def _read_all(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(pattern))]


def judged_ranks(
    told: Sequence[Mapping[str, Any]], nodes: int, per_node: int, program: str, launcher: str, said: str
) -> Finding:
    """The finding from what the ranks told; `said` by the program that started them, where it failed."""
    name = Path(program).name
    hosts = sorted({one["host"] for one in told})
    found = f"{len(told)} by {name}, on {', '.join(hosts) or 'no node'}" + (f": {said}" if said else "")
    step = "correct environment.spread of the site: {nodes}, {ranks}, {per_node}, {cores} are filled in"
    if (len(told), len(hosts)) != (nodes * per_node, nodes):
        expected = f"expected {nodes * per_node} processes on {nodes} nodes"
        return Finding("ranks", "failed", f"{expected}, found {found}", step)
    if launcher == "srun" and {one["srun"][1] if one["srun"] else 1 for one in told} != {2}:
        return Finding("ranks", "failed", f"{found}, each alone", "ddp.launcher: srun needs srun in environment.spread")
    return Finding("ranks", "ok", found)


def judged_mpi(told: Sequence[Any], program: str, is_needed: bool) -> Finding:
    """The finding from what MPI says in each rank: number, size, library; or why it says nothing."""
    errors = [one for one in told if isinstance(one, str)]
    sizes = [one for one in told if not isinstance(one, str)]
    if len(sizes) == 2 and {size for _, size, _ in sizes} == {2}:
        return Finding("MPI", "ok", f"2 ranks by {Path(program).name}, {sizes[0][2]}")
    found = errors[0] if errors else f"{len(told)} ranks, each of size {', '.join(str(one[1]) for one in sizes) or '?'}"
    if is_needed:
        step = "start ranks with the MPI that mpi4py loads (pip install mpich; srun --mpi=pmi2), by environment.spread"
        return Finding("MPI", "failed", f"{Path(program).name}: {found}", step)
    return Finding("MPI", "skipped", f"{Path(program).name}: {found}; not needed unless ddp.launcher: mpiexec")


def judged_network(measured: Mapping[str, Any], hosts: Sequence[str], interface: str) -> Finding:
    """The finding from a round trip and a rate between two nodes."""
    over = f" over {interface}" if interface else ""
    step = "set environment.interface to the fast network: `ip -4 addr` there shows what there is"
    if "error" in measured:
        return Finding("network", "failed", f"{measured['error']}{over}", step)
    rate = f"{1e3 * measured['round_trip']:.2f} ms, {size_text(measured['rate'])}/s"
    slow = measured["rate"] < _SLOW
    return Finding("network", "warning" if slow else "ok", f"{' to '.join(hosts)}{over}: {rate}", step if slow else "")
