"""Zarr stores: arrays of frames, and the counts of an archive of ours."""
