"""How far off the predicted seconds are: simulated archives of a few sizes, from detector files to the map.

    python -m benchmarks.predictions [--sizes quickstart long large sparse] [--set KEY=VALUE ...]

Each archive is made inline, in a process of its own, with one thread for everything. `time` is what the clock says,
`CPU` what the tasks used, which other work on the machine touches less; ratios are measured / predicted. The scans are
SIMULATED.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import hypot
from multiprocessing import get_context
from pathlib import Path

from ainerd_hpc.config import RunConfig
from ainerd_hpc.loading import load
from ainerd_hpc.pipeline import Run
from ainerd_hpc.scaling.fitting import Sample, fit_stage
from ainerd_hpc.study.samples import samples_of

SIZES: Mapping[str, tuple[str, ...]] = {
    "tiny": ("simulate.num_scans=6", "simulate.num_frames=64", "simulate.height=48", "simulate.width=64"),
    "quickstart": ("simulate.num_scans=20", "train.epochs=4"),
    "long": ("simulate.num_scans=4", "simulate.num_frames=2048", "maps.windows=[512]", "train.epochs=2"),
    "large": ("simulate.num_scans=4", "simulate.height=512", "simulate.width=512", "simulate.mean_counts=0.3"),
    "sparse": ("simulate.num_scans=4", "simulate.height=512", "simulate.width=512", "simulate.mean_counts=0.05"),
}
"""What differs from the defaults."""
_SETTINGS = (
    "executor.kind=inline",
    "model.variant=ainerd2024",  # which is trained
    "train.threads=1",
    "train.epochs=2",
    "cluster.min_cluster_size=3",
    "cluster.min_samples=2",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["quickstart", "long", "large", "sparse"])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="settings")
    options = parser.parse_args(arguments)
    wanted = [(*SIZES[size], *options.settings) for size in options.sizes]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:  # each loads its libraries anew
        parts = list(pool.map(compare, options.sizes, wanted))
    rows = [row for part, _ in parts for row in part]
    print("| archive | stage | tasks | predicted s | time s | ratio | CPU s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    if len(parts) > 1:
        print(
            "\n| fitted on the others, predicted | stage | CPU s | predicted / CPU | between |\n|---|---|---|---|---|"
        )
        print("\n".join(learned(dict(zip(options.sizes, (samples for _, samples in parts), strict=True)))))


def learned(samples: Mapping[str, Mapping[str, list[Sample]]]) -> Iterator[str]:
    """A row for each stage of each archive, predicted by what the other archives show."""
    for size, stages in samples.items():
        for stage, ones in stages.items():
            fit = fit_stage([one for other, its in samples.items() if other != size for one in its.get(stage, ())])
            terms = Counter[str]()
            for one in ones:
                terms.update(one.terms)
            cpu = sum(one.cpu_seconds for one in ones)
            mean, spread = fit.cpu_seconds(terms, sum(one.is_first for one in ones))
            spread = hypot(spread, 0.1 * mean)
            between = f"{(mean - 2 * spread) / cpu:.2f} to {(mean + 2 * spread) / cpu:.2f}"
            yield f"| {size} | {stage} | {cpu:.2f} | {mean / cpu:.2f} | {between} |"


def compare(size: str, settings: Sequence[str]) -> tuple[list[str], dict[str, list[Sample]]]:
    """A row for each stage of one archive, and what its tasks took."""
    with tempfile.TemporaryDirectory() as folder:
        places = [f"source.path={folder}/raw", f"archive={folder}/archive"]
        config = load(None, [*places, *_SETTINGS, *settings])
        reports, rows = Run(config).execute(), []
        used = recorded(config)
        for report in reports:
            cpu = used[report.stage]["cpu_seconds"]
            of_cpu = cpu / report.predicted_seconds
            times = f"{report.predicted_seconds:.2f} | {report.task_seconds:.2f} | {report.off_by:.2f}"
            rows.append(f"| {size} | {report.stage} | {report.num_done} | {times} | {cpu:.2f} | {of_cpu:.2f} |")
        return rows, samples_of(config)


def recorded(config: RunConfig) -> dict[str, dict[str, float]]:
    """What the run record says of the tasks of each stage."""
    (path,) = Path(config.archive, "runs").glob("*.json")
    found: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return found


if __name__ == "__main__":
    main()
