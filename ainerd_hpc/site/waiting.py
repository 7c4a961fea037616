"""How the threads of a computation wait for each other."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

BRIEFLY = {"GOMP_SPINCOUNT": "1000"}
"""Threads of OpenMP (of torch, and of what scikit-learn compiles) look a thousand times whether the others are done,
some microseconds, and sleep then. By default they look for milliseconds: that gains nothing measurable on a free
machine, and takes the time in which the thread that is waited for could be at work where others compute as well."""


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have the threads of this process, and of those that it starts, wait so; call it before torch is loaded.

    Whoever has set a policy keeps it.
    """
    if "OMP_WAIT_POLICY" not in environment:
        for name, value in BRIEFLY.items():
            environment.setdefault(name, value)
