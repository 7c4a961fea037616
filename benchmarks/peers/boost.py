"""boost_corr (Argonne): two-time or multi-tau of all rings, to its result file."""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np
import torch
from boost_corr import MultitauCorrelator, TwotimeCorrelator
from boost_corr.xpcs_aps_8idi.gpu_corr import solve_corr
from boost_corr.xpcs_aps_8idi.gpu_corr_multitau import solve_multitau
from boost_corr.xpcs_aps_8idi.gpu_corr_twotime import solve_twotime
from boost_corr.xpcs_aps_8idi.xpcs_result import XpcsResult
from harness import THREADS, Results, main

COMMON = {
    "gpu_id": -1,
    "num_loaders": THREADS,
    "crop_ratio_threshold": 1.1,  # its default mixes up frames where half of the pixels or more are valid
    "overwrite": True,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--type", choices=["twotime", "multitau", "both"], required=True)
    parser.add_argument("--smooth", choices=["sqmap", "dqmap"], default="sqmap")


def job(scan, out, options, watch):
    torch.set_num_threads(THREADS)
    files = {"raw": str(scan / "scan.h5"), "qmap": str(scan / "scan_qmap.hdf"), "output": str(out)}
    watch.wrap(XpcsResult, "append", "writing")
    watch.wrap(TwotimeCorrelator, "process_dataset", "reading")
    watch.wrap(MultitauCorrelator, "process_dataset", "multitau_while_reading")
    solve = {"twotime": solve_twotime, "multitau": solve_multitau, "both": solve_corr}[options.type]
    result = Path(solve(**files, **COMMON, smooth=options.smooth, normalize_frame=False))
    return lambda: (
        ({} if options.type == "twotime" else load_multitau(result, options.rings))
        | ({} if options.type == "multitau" else load_twotime(result, options.rings))
    )


def load_multitau(path: Path, rings: list[int]) -> Results:
    with h5py.File(path, "r") as file:
        group = file["xpcs/multitau"]
        return {"lag": group["delay_list"][()].ravel(), "g2": group["normalized_g2"][()].T[rings]}


def load_twotime(path: Path, rings: list[int]) -> Results:
    with h5py.File(path, "r") as file:
        maps = file["xpcs/twotime/correlation_map"]
        return {"c2": np.stack([maps[f"c2_{ring + 1:05d}"][()] for ring in rings])}


if __name__ == "__main__":
    main(job, ["boost-corr", "torch", "numpy", "h5py"], add_options)
