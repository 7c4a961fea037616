"""Which versions of what are at work."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from importlib import metadata

from ainerd_hpc import __version__

_LIBRARIES = ("numpy", "scipy", "zarr", "torch", "lightning", "umap-learn", "hdbscan", "dask", "h5py")


@functools.cache
def versions() -> Mapping[str, str]:
    """The versions of this package, of Python, and of the libraries that the products depend on."""
    ours = {"ainerd_hpc": __version__, "python": platform.python_version()}
    return ours | {name: metadata.version(name) for name in _LIBRARIES}
