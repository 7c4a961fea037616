"""The readers of source files, one module a format, found by content; the only place with h5py."""
