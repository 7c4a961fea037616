"""How well embeddings sort an archive by how samples move: all of them on the same archives of known truth.

    python -m benchmarks.dynamics [--maps 1000] [--seeds 3] [--weights FILE] [--epochs 5] [--data FOLDER] [--json FILE]

The archives are SIMULATED, one for each seed. Prints a table, mean and standard deviation over the seeds. Of each
archive, every embedding is made twice, with other seeds of its own and of UMAP, to see how far the clusters agree.
--weights are the published ones of the network ainerd2024; --epochs trains it on each archive. --data holds measured
maps, as `benchmarks/measured.py` says. With OMP_NUM_THREADS=1, CPU ms are those of one core that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ainerd_hpc.evaluation import scores
from ainerd_hpc.evaluation.archives import LEAST_SIGNAL_TO_NOISE, KnownArchive, draw_archive
from benchmarks import measured
from benchmarks.embeddings import Make, embeddings, signal_to_noise

Scores = dict[str, float]
LINES = {
    "ari": "ARI of clusters and kinds",
    "clear_ari": "ARI, maps of signal to noise >= 30",
    "ami": "AMI",
    "noise_share": "share of noise",
    "clusters_per_kind": "clusters a kind",
    "purity": "nearest map of another scan is of the same kind",
    "leaning_purity": "the same, faint maps lean on their siblings",
    "retrained_ari": "ARI of two trainings",
    "subsample_ari": "ARI of two samples of 80 % of the scans",
    "growth_ari": "ARI before and after 20 % of the scans came",
    "rare_recall": "rare kinds found at 5 % false alarms",
    "rare_auc": "rare kinds: AUC",
    "r2_log_half_decay": "R2 of log half decay",
    "r2_log_tau": "R2 of log tau",
    "r2_log_tau_stationary": "R2 of log tau, stationary kinds",
    "r2_log_contrast": "R2 of log contrast",
    "r2_kww_exponent": "R2 of exponent",
    "r2_ageing_rate": "R2 of ageing rate",
    "moves_noise": "moved by noise (nearest-neighbour distances)",
    "moves_thinned": "moved by half of the photons",
    "moves_age": "moved by a shift of the window",
    "moves_resampled": "moved by two frames as one",
    "moves_contrast": "moved by half of the contrast",
    "moves_q_bin": "moved by the next q-bin",
    "cpu_ms": "CPU ms a map",
    "retrieval": "measured: nearest window is of the same group",
    "retrieval_scales": "measured: the same, half decay and contrast count, too",
    "friedel_offset": "measured: nearest sector (9 is opposite)",
    "friedel_ratio": "measured: distance of q and -q over that of q turned by 90 degrees",
    "shear_purity": "measured: nearest map of one under shear is, too",
    "tau_factor": "measured: factor between tau and published fits",
}
"""What each score is, in the order of the table."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write down."""
    options = _parser().parse_args(arguments)
    makers = embeddings(options.weights, options.epochs, options.others)
    found: dict[str, list[Scores]] = {name: [] for name in makers}
    for seed in range(options.seeds):
        archive = _drawn(seed, options)
        for name, make in makers.items():
            found[name].append(on_archive(make, archive, seed))
            print(f"{name}: ARI {found[name][-1]['ari']:.2f}", file=sys.stderr)
    on_measured = {name: measured.scores(make, options.data) if options.data else {} for name, make in makers.items()}
    print(table(found, on_measured))
    for name in measured.absent(options.data):
        print(f"\n{name}: not in the folder of the data, left out")
    if options.json:
        options.json.write_text(as_json({"archives": found, "measured": on_measured}), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--signal-to-noise", type=float, default=LEAST_SIGNAL_TO_NOISE, help="least of a scan")
    parser.add_argument("--processes", type=int, default=1, help="that draw the archives")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="weights of lag_age of other trainings")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    return parser


def _drawn(seed: int, options: argparse.Namespace) -> KnownArchive:
    """The archive of a seed, of whose maps a seventh or so has views."""
    archive = draw_archive(
        seed,
        options.maps,
        num_viewed=options.maps * 3 // 20,
        least_signal_to_noise=options.signal_to_noise,
        processes=options.processes,
    )
    kinds = archive.truth["kind"][archive.is_map]
    said = f"{len(kinds)} maps, {archive.redrawn} scans drawn again for lack of signal"
    print(f"archive {seed}: {said}; {', '.join(sorted(set(kinds)))}", file=sys.stderr)
    return archive


def on_archive(make: Make, archive: KnownArchive, seed: int) -> Scores:
    """The scores of one embedding on one archive."""
    places = np.flatnonzero(archive.is_map)
    maps, scans = [archive.c2[place] for place in places], archive.truth["scan"].to_numpy()[places].tolist()
    embed = make(maps, scans, seed)
    began = time.process_time()
    embedded = embed(archive.c2)
    cpu_ms = (time.process_time() - began) / len(archive.c2) * 1000
    clear, same_kind = signal_to_noise(archive.c2), embedded.same_kind
    found, labels = scores.score(
        embedded.latents,
        archive.truth,
        numbers=embedded.numbers,
        novelty=embedded.novelty,
        signal_to_noise=clear,
        same_kind=same_kind,
        seed=seed,
    )
    other = scores.leaning(make(maps, scans, seed + 1000)(maps).latents, np.asarray(scans), clear[places])
    again = scores.clustered(other, np.asarray(scans), seed=seed, same_kind=same_kind)
    return found | {"retrained_ari": scores.stability([labels, again]), "cpu_ms": cpu_ms}


def as_json(results: Mapping[str, Any]) -> str:
    """Results as JSON, which knows no NaN: null."""
    plain = json.loads(json.dumps(results), parse_constant=lambda name: None)
    return json.dumps(plain, indent=1, allow_nan=False)


def table(found: Mapping[str, Sequence[Scores]], on_measured: Mapping[str, Scores]) -> str:
    """Markdown: a row a score, a column an embedding; in brackets what the numbers beside the latents give."""
    lines = [f"| | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for key, text in LINES.items():
        cells = [_cell([*each, on_measured[name]], key) for name, each in found.items()]
        if any(cells):
            lines.append(f"| {text} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(each: Sequence[Scores], key: str) -> str:
    """Mean and spread of a score, and in brackets those of the numbers."""
    values, numbers = ([one[name] for one in each if name in one] for name in (key, f"numbers_{key}"))
    return _mean(values) + (f" ({_mean(numbers)})" if numbers else "")


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "-" if values else ""
    spread = f" ± {np.std(known, ddof=1):.2f}" if len(known) > 1 else ""
    return f"{np.mean(known):.2f}{spread}"


if __name__ == "__main__":
    main()
