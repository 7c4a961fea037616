"""The command lines that each site file gives for one line: `python -m tests.support.golden_submission` writes them."""

from __future__ import annotations

import shlex
from pathlib import Path

from ainerd_hpc.config import ExecutorConfig
from ainerd_hpc.site.site_file import SiteConfig, load_site
from ainerd_hpc.stages.registry import STAGES
from ainerd_hpc.submission.chain import command_lines
from ainerd_hpc.submission.steps import Step, steps
from ainerd_hpc.types import Plan, Shape, Task
from tests.support.places import GOLDEN, ROOT

SITES = sorted((ROOT / "configs" / "sites").glob("*.yaml"))
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


KINDS = ("local", "elastic", "allocation")


def submitted(site_path: Path, kind: str) -> tuple[list[Step], list[list[str]]]:
    """Steps and command lines of a line whose ingest is done; with `allocation`, on several nodes."""
    site = load_site(site_path)
    if kind == "allocation":
        given = site.model_dump(exclude_unset=True)
        more = {section: {**given.get(section, {}), "nodes": nodes} for section, nodes in (("array", 3), ("ddp", 2))}
        site = SiteConfig.model_validate({**given, **more})
    line = steps(plans(ingest=0), site, ExecutorConfig(kind=kind, site=site_path))  # type: ignore[arg-type]
    return line, command_lines(line, site)


def text(site_path: Path) -> str:
    """All command lines for a site, a line each, by where tasks run."""
    blocks = ((kind, submitted(site_path, kind)[1]) for kind in KINDS)
    return "".join(f"# {kind}\n" + "".join(f"{shlex.join(words)}\n" for words in lines) for kind, lines in blocks)


if __name__ == "__main__":
    for path in SITES:
        (GOLDEN / f"{path.stem}.txt").write_text(text(path), encoding="utf-8")
