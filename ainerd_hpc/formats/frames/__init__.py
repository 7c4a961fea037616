"""Readers of scans that are stored as frames in HDF5."""
