"""A simulated report for the tests of the page: several kinds of dynamics, an ageing sample, a sample log."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from ainerd_hpc.report.content import Curve, Detail, ReportData
from ainerd_hpc.report.thinning import choose

KINDS = (  # tau (s), KWW exponent, contrast, place in the map, spread
    (0.004, 1.0, 0.32, (-5.0, 2.0), 0.55),
    (0.030, 0.7, 0.30, (-2.6, -2.4), 0.70),
    (0.250, 1.0, 0.28, (0.4, 1.6), 0.85),
    (0.900, 1.6, 0.27, (3.8, -1.2), 0.60),
    (4.000, 1.9, 0.25, (6.2, 2.4), 0.45),
    (0.080, 1.3, 0.22, (2.0, 5.0), 0.40),
    (0.012, 0.5, 0.15, (-5.6, -3.9), 0.35),
)
START = 1.7636e9
"""First scan, seconds of the UTC epoch."""
FRAMES, FRAME_TIME = 512, 0.01


def two_time(tau: float, exponent: float, age: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A (m, m) uint8 picture of C2 - 1 with noise, tau growing along the diagonal for slow dynamics."""
    lag = np.abs(age[:, None] - age[None, :])
    middle = (age[:, None] + age[None, :]) / 2
    local = tau * (1 + 0.6 * middle / age[-1]) if tau > 0.5 else np.full_like(middle, tau)
    c2 = np.exp(-2 * (lag / local) ** exponent) + rng.normal(0, 0.07, lag.shape)
    if 0.05 < tau < 0.2:
        c2 += 0.5 * np.exp(-8 * (1 - np.cos(2 * np.pi * lag / 1.2)))
    return np.clip(255 * (c2 * 0.8 + 0.1), 0, 255).astype(np.uint8)


def small_pictures(table: pd.DataFrame, size: int, rng: np.random.Generator) -> np.ndarray:
    age = np.linspace(0, FRAMES * FRAME_TIME, size)
    pictures = [
        two_time(tau if tau == tau else 9.0, exponent if exponent == exponent else 1.0, age, rng)
        for tau, exponent in zip(table["tau"], table["kww_exponent"], strict=True)
    ]
    return np.array(pictures, np.uint8).reshape(-1, size, size)


def table_of(maps: int, seed: int = 7, q_bins: int = 4) -> pd.DataFrame:
    """`maps` rows; the kinds follow each other in time, as temperature and stress are changed."""
    rng = np.random.default_rng(seed)
    scans = -(-maps // (3 * q_bins))
    row = np.arange(maps)
    scan = row // (3 * q_bins)
    drift = scan / max(1, scans - 1) * (len(KINDS) - 1)
    kind = np.clip(np.rint(drift + rng.normal(0, 0.9, scans)[scan]), 0, len(KINDS) - 1).astype(int)
    tau, exponent, contrast, place, spread = (np.array(column)[kind] for column in zip(*KINDS, strict=True))
    q_bin, window = row % q_bins, row // q_bins % 3
    is_noise = rng.random(maps) < 0.08
    xy = place + rng.normal(0, 1, (maps, 2)) * spread[:, None] * np.where(is_noise, 2.6, 1)[:, None]
    q = 0.002 * 1.7**q_bin
    fitted = tau * (q[0] / q if maps else 1) * rng.lognormal(0, 0.18, maps)
    fitted[rng.random(maps) < 0.02] = np.nan
    time = START + 5400 * scan + (scan > scans * 0.6) * 36000 + window * FRAMES * FRAME_TIME
    return pd.DataFrame(
        {
            "map_id": [f"A{s:04d}_q{b}_w{w}" for s, b, w in zip(scan, q_bin, window, strict=True)],
            "scan_id": [f"A{s:04d}_gel_{298 + 2 * (s // 8):d}K" for s in scan],
            "q_bin": q_bin,
            "q": q,
            "age_start": window * FRAMES,
            "age_stop": (window + 1) * FRAMES,
            "frame_time": FRAME_TIME,
            "time": time,
            "label": np.where(is_noise, -1, kind),
            "probability": np.where(is_noise, 0, rng.beta(8, 1.5, maps)),
            "novelty": np.clip(rng.beta(1.3, 9, maps) + is_noise * rng.uniform(0.1, 0.6, maps), 0, 1),
            "x": xy[:, 0],
            "y": xy[:, 1],
            "tau": fitted,
            "contrast": contrast * rng.normal(1, 0.06, maps),
            "kww_exponent": exponent * rng.normal(1, 0.07, maps),
            "reconstruction_l1": rng.gamma(9, 0.004, maps),
            "temperature_K": 298.0 + 2 * (scan // 8) + rng.normal(0, 0.05, scans)[scan],
            "stress_Pa": np.where((scan % 16) > 9, 35.0, 0.0),
        }
    )


def thinned_report(maps: int = 3000, points: int = 400, thumbnails: int = 400) -> ReportData:
    """A report over so many maps, of which the page draws some, and some of these have a thumbnail."""
    data, whole = report(600), table_of(maps)
    shown = choose(whole, points, thumbnails, 100)
    return dataclasses.replace(
        data,
        table=whole.iloc[shown.pictured].reset_index(drop=True),
        thumbnails=data.thumbnails[np.resize(np.arange(600), len(shown.pictured))],
        whole=whole,
        others=shown.others,
        stands_for=shown.stands_for,
        thinned=shown.text,
    )


def curve_of(tau: float, exponent: float, contrast: float, rng: np.random.Generator) -> Curve:
    delay = FRAME_TIME * np.unique(np.geomspace(1, FRAMES * 0.8, 28).astype(int))
    fit = 1 + contrast * np.exp(-2 * (delay / tau) ** exponent)
    error = 0.004 + 0.01 * np.sqrt(delay / delay[-1])
    return Curve(delay, fit + rng.normal(0, error), error, fit)


def detail_of(row: pd.Series, age: np.ndarray, rng: np.random.Generator) -> Detail:
    """A map at full size, with cells that fall with lag, and a reconstruction without their noise."""
    tau, exponent, contrast = row["tau"], row["kww_exponent"], row["contrast"]
    curve = curve_of(tau, exponent, contrast, rng) if tau == tau else None
    expected = np.repeat(np.linspace(250, 0, 60)[:, None], 16, axis=1)
    cells = np.clip(expected + rng.normal(0, 20, expected.shape), 0, 255)
    picture = two_time(tau if tau == tau else 9.0, exponent, age, rng)
    return Detail(row["map_id"], picture, curve, cells.astype(np.uint8), expected.astype(np.uint8))


def nearest_rows(points: np.ndarray, most: int = 8) -> np.ndarray:
    """For each point (n, 2) the rows of the nearest others, -1 where there are no more."""
    away = np.hypot(*(points[:, None] - points[None]).T)
    np.fill_diagonal(away, np.inf)
    order = np.argsort(away, axis=1, kind="stable")[:, : min(most, max(0, len(points) - 1))]
    return np.pad(order, ((0, 0), (0, most - order.shape[1])), constant_values=-1)


def report(maps: int = 600, seed: int = 7) -> ReportData:
    """A full report over `maps` simulated maps."""
    rng = np.random.default_rng(seed)
    table = table_of(maps, seed)
    age = np.linspace(0, FRAMES * FRAME_TIME, 128)
    exemplars, details = {}, []
    for label, group in table[table["label"] >= 0].groupby("label"):
        best = group.sort_values(["probability", "map_id"], ascending=[False, True]).head(6)
        exemplars[int(label)] = best["map_id"].tolist()
        details += [detail_of(row, age, rng) for _, row in best.iterrows()]
    return ReportData(
        title="One map of all the dynamics",
        subtitle=f"{table['scan_id'].nunique()} scans, {maps} maps, model default, 2026-11-20",
        simulated=True,
        table=table,
        thumbnails=small_pictures(table, 32, rng),
        details=details,
        exemplars=exemplars,
        quarantine=[
            {
                "scan_id": "A0017_gel_302K",
                "stage": "ingest",
                "reason": "A0017.h5, /entry/data/data, frames 211-212: expected 512, found 210; copy the file again",
            },
            {
                "scan_id": "A0031_gel_304K",
                "stage": "correlate",
                "reason": "A0031.h5: all counts are 0; check shutter and mask",
            },
        ],
        doubts=[
            {
                "scan_id": "A0003_gel_298K",
                "q_bin": "2",
                "reason": "its contrast is 25 times the largest that speckle can give",
            }
        ],
        notes=[{"scans": "A0005_gel_299K, A0006_gel_299K", "note": "det_dist 5000 m, expected 0.01 to 200 m"}],
        facts={
            "ainerd-hpc": "0.1.0",
            "config digest": "9f3a61c04be2d715",
            "model": "default (ainerd2024, 379,665 parameters)",
            "correlate": "41.2 s",
            "train": "96.5 s",
            "cluster": "7.9 s",
        },
        sample_columns=("temperature_K", "stress_Pa"),
        neighbours=nearest_rows(table[["x", "y"]].to_numpy()),
    )
