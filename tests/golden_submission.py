"""The command lines that each site file gives for one line: `python -m tests.golden_submission` writes them."""

from __future__ import annotations

import shlex
from pathlib import Path

from ainerd_hpc.site import load_site
from ainerd_hpc.submission.chain import command_lines
from ainerd_hpc.submission.steps import Step, steps
from ainerd_hpc.types import STAGES, Plan, Shape, Task

SITES = sorted((Path(__file__).parents[1] / "configs" / "sites").glob("*.yaml"))
GOLDEN = Path(__file__).parent / "golden"
SHAPES = dict.fromkeys(STAGES, Shape.ARRAY) | {
    "train": Shape.DDP,
    "cluster": Shape.SINGLE,
    "report": Shape.SINGLE,
}


def plans(**num_tasks: int) -> list[Plan]:
    """A line from ingest on with so many tasks left in each stage; where none are named, 5 to be shared, else 1."""
    found = []
    for stage, shape in list(SHAPES.items())[1:]:
        number = num_tasks.get(stage, 5 if shape is Shape.ARRAY else 1)
        tasks = tuple(Task(f"scan{index}", "digest", 0, 0, 0) for index in range(number))
        found.append(Plan(stage, shape, tasks))
    return found


def submitted(site_path: Path) -> tuple[list[Step], list[list[str]]]:
    """Steps and command lines of a line whose ingest is done."""
    site = load_site(site_path)
    line = steps(plans(ingest=0), site)
    return line, command_lines(line, site)


def text(site_path: Path) -> str:
    """All command lines for a site, a line each."""
    return "".join(f"{shlex.join(words)}\n" for words in submitted(site_path)[1])


if __name__ == "__main__":
    for path in SITES:
        (GOLDEN / f"{path.stem}.txt").write_text(text(path), encoding="utf-8")
