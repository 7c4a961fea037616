"""scikit-beam (BNL): multi-tau g2, or two-time of the first frames, of all rings, to memory."""

from __future__ import annotations

import argparse
from itertools import chain, islice

import h5py
from harness import FRAMES, main, read_blocks, read_labels
from skbeam.core.correlation import multi_tau_auto_corr, two_time_corr

NUM_BUFS = 8


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--type", choices=["twotime", "multitau"], required=True)
    parser.add_argument("--frames", type=int, help="only the first ones")


def job(scan, out, options, watch):
    with h5py.File(scan / "scan.h5", "r") as file:
        num_frames = min(file[FRAMES].shape[0], options.frames or 2**62)
    labels = read_labels(scan)
    images = islice(chain.from_iterable(read_blocks(scan, watch)), num_frames)
    if options.type == "twotime":
        c2 = two_time_corr(labels, images, num_frames, num_frames).g2
        return lambda: {"c2": c2[options.rings]}
    num_levels = next(level for level in range(1, 64) if num_frames >> level <= NUM_BUFS // 2)
    g2, lag = multi_tau_auto_corr(num_levels, NUM_BUFS, labels, images)
    return lambda: {"lag": lag[: len(g2)], "g2": g2.T[options.rings]}


if __name__ == "__main__":
    main(job, ["scikit-beam", "numpy", "h5py"], add_options)
