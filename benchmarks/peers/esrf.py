"""xpcs-correlator (ESRF): two-time and every-lag g2 of all rings, to memory; dense, or sparse by frame or by pixel."""

from __future__ import annotations

import argparse

import numpy as np
import xpcscorr
from harness import THREADS, main, read_blocks, read_frames, read_labels
from xpcscorr.correlators.sparse.base import _convert_frames_csr_to_csc


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--form", choices=["dense", "frame", "pixel"], required=True)
    parser.add_argument("--workers", type=int, default=0, help="Dask workers of the sparse ones; 0: none")


def job(scan, out, options, watch):
    labels = read_labels(scan)
    if options.form == "dense":
        frames = read_frames(scan, watch)
        with watch("kernel"):
            results = xpcscorr.correlator_dense_reference(frames, labels, ttcf_format="t1,t2")
    else:
        results = sparse(scan, labels, options, watch)
    return lambda: {"c2": results.ttcf[options.rings], "g2": results.g2[options.rings]}


def sparse(scan, labels, options, watch):
    intensity, pixel, pointer = by_frame(scan, watch)
    shape = (len(pointer) - 1, *labels.shape)
    extra = {"dask_cluster_type": "local" if options.workers else None, "dask_n_workers": options.workers or 1}
    if options.form == "frame":
        correlate = xpcscorr.correlator_sparse_frame_chunked
        extra["chunks_N"] = THREADS if options.workers else 1
    else:
        with watch("converting"):
            intensity, pixel, pointer = _convert_frames_csr_to_csc(
                intensity, pixel, pointer, labels.size, np.empty(0, np.int32)
            )
        correlate = xpcscorr.correlator_sparse_pixel_chunked
    with watch("kernel"):
        return correlate(intensity, pixel, pointer, shape, labels, ttcf_format="t1,t2", extra_options=extra)


def by_frame(scan, watch):
    """Counts, their pixels, and where each frame begins among them."""
    counts, pixels, sizes = [], [], [0]
    for block in read_blocks(scan, watch):
        with watch("converting"):
            flat = block.reshape(len(block), -1)
            frame, pixel = np.nonzero(flat)
            counts.append(flat[frame, pixel])
            pixels.append(pixel.astype(np.int32))
            sizes.extend(np.bincount(frame, minlength=len(block)))
    return np.concatenate(counts), np.concatenate(pixels), np.cumsum(sizes)


if __name__ == "__main__":
    main(job, ["xpcs-correlator", "numba", "numpy", "h5py"], add_options)
