"""Reprocess an archive of XPCS scans and give back one map of all its dynamics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ainerd_hpc.api import Archive, correlate, open

__version__ = "0.1.0"
__all__ = ["Archive", "__version__", "correlate", "open"]


def __getattr__(name: str) -> Any:
    """The Python API, loaded when it is first used: to import the package takes no library."""
    if name not in __all__:
        raise AttributeError(f"module 'ainerd_hpc' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("ainerd_hpc.api"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
