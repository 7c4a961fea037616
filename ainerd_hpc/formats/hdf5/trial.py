"""Whether HDF5 works on a file system."""

from __future__ import annotations

from pathlib import Path

import h5py


def try_hdf5(path: Path) -> None:
    """Write a small file and read it.

    Raises
    ------
    OSError
        HDF5 cannot lock it there, or reads something else.
    """
    with h5py.File(path, "w") as file:
        file["numbers"] = [1, 2, 3]
    with h5py.File(path, "r", locking=False) as file:
        found = file["numbers"][...].tolist()
    if found != [1, 2, 3]:
        raise OSError(f"{path}: expected the numbers just written, found {found}")
