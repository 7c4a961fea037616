"""What readers of HDF5 share: opening, links, chunks, datasets of frames."""
