"""What a job starts on its nodes, one or two processes: they tell how they find each other, in files that all see."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import psutil

from ainerd_hpc.doctor.libraries import mpi_facts
from ainerd_hpc.publishing import write_json
from ainerd_hpc.site.allocation import place_by_srun

_TO_MEET = 15.0
_ROUND_TRIPS, _BYTES = 50, 32 * 2**20
_PAUSES = (0.05, 0.5)
"""Seconds, growing."""


def address_of(interface: str) -> str:
    """IPv4 address of a network interface, or of the name of this host where none is given; empty where there is none.

    Parameters
    ----------
    interface : str
        Several, with commas between: the first of them.
    """
    if not interface:
        try:
            return socket.gethostbyname(socket.gethostname())
        except OSError:
            return ""
    own = psutil.net_if_addrs().get(interface.partition(",")[0], [])
    return next((one.address for one in own if one.family == socket.AF_INET), "")


def rank(folder: Path, interface: str, number: int) -> None:
    """Tell who this is, try the network to the other one of two, and last MPI, which may end the process."""
    name = f"{socket.gethostname()}-{os.getpid()}"
    address = address_of(interface)
    with socket.create_server((address or "127.0.0.1", 0)) as server:
        server.settimeout(_TO_MEET)
        facts = {"host": socket.gethostname(), "address": address, "srun": place_by_srun()}
        write_json(folder / f"rank.{name}.json", {**facts, "port": server.getsockname()[1]})
        paths = _all(folder, number)
        if len(paths) == 2:
            first, second = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
            if paths[0].name == f"rank.{name}.json":
                _answer(server)
            else:
                write_json(folder / "network.json", _measured(first, second))
    write_json(folder / f"mpi.{name}.json", {"mpi": _mpi()})


def _all(folder: Path, number: int) -> list[Path]:
    """What all ranks have told, as soon as they have."""
    deadline, pause = time.monotonic() + _TO_MEET, _PAUSES[0]
    while len(found := sorted(folder.glob("rank.*.json"))) < number and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, _PAUSES[1])
    return found


def _answer(server: socket.socket) -> None:
    """Send back what is sent, then take the rest."""
    try:
        connection, _ = server.accept()
    except TimeoutError:
        return
    with connection:
        for _ in range(_ROUND_TRIPS):
            connection.sendall(connection.recv(1))
        left = _BYTES
        while left and (data := connection.recv(2**20)):
            left -= len(data)
        connection.sendall(b"x")


def _measured(first: dict[str, str], second: dict[str, str]) -> dict[str, object]:
    """Seconds of a round trip and bytes per second from the second rank to the first, or why there are none."""
    try:
        with socket.create_connection((first["address"], int(first["port"])), timeout=_TO_MEET) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.perf_counter()
            for _ in range(_ROUND_TRIPS):
                connection.sendall(b"x")
                connection.recv(1)
            middle = time.perf_counter()
            connection.sendall(bytes(_BYTES))
            connection.recv(1)
            seconds = time.perf_counter() - middle
    except OSError as error:
        return {"error": f"{second['host']} cannot reach {first['host']} at {first['address']}: {error}"}
    return {"round_trip": (middle - began) / _ROUND_TRIPS, "rate": _BYTES / seconds}


def _mpi() -> list[object] | str:
    try:
        return mpi_facts()
    except (ImportError, RuntimeError) as error:
        return " ".join(str(error).split())
