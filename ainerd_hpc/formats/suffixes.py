"""What files are called that may hold scans."""

from __future__ import annotations

HDF5_SUFFIXES = {".h5", ".hdf", ".hdf5", ".nxs", ".cxi"}
RAW_SUFFIXES = HDF5_SUFFIXES | {".npy", ".bin", ".imm", ".edf", ".cbf", ".tif", ".tiff"}
"""Files that are expected to hold something by these: where they do not, this is said."""
