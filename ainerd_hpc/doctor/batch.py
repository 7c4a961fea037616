"""The batch system: are its commands there, does it answer, would it take jobs as the site file asks for them."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ainerd_hpc.doctor.finding import Finding, said_by
from ainerd_hpc.errors import SubmissionError
from ainerd_hpc.site.site_file import KINDS, Kind, SiteConfig, clock
from ainerd_hpc.submission.batch import batch_system, call
from ainerd_hpc.submission.files import scripts
from ainerd_hpc.submission.steps import Step

_PROGRAMS: Mapping[str, Sequence[str]] = {
    "slurm": ("sbatch", "squeue", "scancel", "scontrol", "sacct", "srun"),
    "pbs": ("qsub", "qstat", "qdel", "qrls"),
}
_SLOW = 5.0
"""Seconds in which an answer should be there."""
_UNKNOWN_QUEUE = 170
"""What qstat gives."""
NO_SUCH_JOB = "0"


def commands(site: SiteConfig) -> Iterator[Finding]:
    """The programs, and how long an answer takes."""
    programs = _PROGRAMS[site.system]
    if missing := [name for name in programs if shutil.which(name) is None]:
        step = "run this where the batch system can be reached, or load its module"
        yield Finding("commands", "failed", f"no {', '.join(missing)} on the PATH", step)
        return
    version = said_by([programs[1], "--version"], 10)
    began = time.perf_counter()
    try:
        batch_system(site.system).ask([NO_SUCH_JOB])
    except SubmissionError as error:
        yield Finding("commands", "failed", str(error), "ask the administrators whether it is down")
        return
    seconds = time.perf_counter() - began
    name = version[1].strip().splitlines()[0] if version[0] == 0 and version[1].strip() else site.system
    found = f"{name}: {', '.join(programs)}; an answer takes {seconds:.1f} s"
    slow = seconds > _SLOW
    yield Finding("commands", "warning" if slow else "ok", found, "ask for its state less often" if slow else "")


def queues(site: SiteConfig, folder: Path) -> Iterator[Finding]:
    """Findings whether each kind of job would be taken; nothing is submitted.

    Parameters
    ----------
    folder : Path
        For the scripts.
    """
    folder.mkdir()
    for name, text in scripts(batch_system(site.system).SUFFIX).items():
        (folder / name).write_text(text, encoding="utf-8")
    for kind in KINDS:
        yield _slurm_takes(kind, site, folder) if site.system == "slurm" else _pbs_takes(kind, site)


def _asked(kind: Kind, site: SiteConfig) -> str:
    nodes = site.of(kind)
    words = [nodes.queue and f"queue {nodes.queue}", nodes.account and f"account {nodes.account}"]
    told = ", ".join(word for word in words if word) or "the default queue"
    return f"{told}, {nodes.nodes} x {nodes.cores or 'default'} cores, {clock(nodes.walltime)}"


def _slurm_takes(kind: Kind, site: SiteConfig, folder: Path) -> Finding:
    slurm = batch_system("slurm")
    longest = min(site.array.jobs, slurm.largest_array() or site.array.jobs)
    step = Step(kind, kind, "report", "report", num_shares=longest if kind == "array" else 0)
    words = [*slurm.command(step, site), "--test-only", f"{kind}.sbatch"]
    try:
        call(words, folder)
    except SubmissionError as error:
        text = str(error).replace("sbatch: error: ", "").replace("allocation failure: ", "")
        return Finding(f"{kind} jobs", "failed", text, f"correct {kind} (or nodes) in the site file")
    return Finding(f"{kind} jobs", "ok", f"would be taken: {_asked(kind, site)}")


def _pbs_takes(kind: Kind, site: SiteConfig) -> Finding:
    """PBS tells about queues only; the rest, a job that is submitted."""
    nodes = site.of(kind)
    if not nodes.queue:
        return Finding(f"{kind} jobs", "skipped", f"PBS judges them when they are submitted: {_asked(kind, site)}")
    status, said = said_by(["qstat", "-Qf", nodes.queue.partition("@")[0]], 15)
    if status == _UNKNOWN_QUEUE:
        return Finding(f"{kind} jobs", "failed", said, f"correct {kind}.queue in the site file; `qstat -Q` lists them")
    if status:
        return Finding(f"{kind} jobs", "skipped", f"qstat -Qf says nothing of queues here: {_asked(kind, site)}")
    return judged_queue(kind, said, nodes.walltime, _asked(kind, site))


def judged_queue(kind: str, text: str, walltime: float, asked: str) -> Finding:
    """The finding from what `qstat -Qf` says of a queue, for jobs of a walltime in seconds."""
    facts = dict(re.findall(r"^\s+(\S+) = (.*)$", text, flags=re.MULTILINE))
    stopped = [name for name in ("enabled", "started") if facts.get(name, "True") != "True"]
    if stopped:
        found = f"{asked}: the queue is not {' and not '.join(stopped)}"
        return Finding(f"{kind} jobs", "failed", found, f"wait, or correct {kind}.queue in the site file")
    limit = facts.get("resources_max.walltime", "")
    hours, minutes, seconds = (int(part) for part in (limit or "0:0:0").split(":"))
    if 0 < 3600 * hours + 60 * minutes + seconds < walltime:
        found = f"{asked}: the queue gives {limit} at most"
        return Finding(f"{kind} jobs", "failed", found, f"lower {kind}.walltime in the site file")
    return Finding(f"{kind} jobs", "ok", f"the queue takes them: {asked}")
