"""Submit the line, cancel it, and let a job go on whose time was up."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import dropwhile
from pathlib import Path

from ainerd_hpc.archive.journal import Journal
from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.run_record import keep_config
from ainerd_hpc.config import RunConfig
from ainerd_hpc.console import console, print_rows, size_text
from ainerd_hpc.errors import AinerdError, SubmissionError
from ainerd_hpc.planning import check, check_before, plan, stage_names, survey
from ainerd_hpc.site.site_file import SiteConfig, clock, load_site
from ainerd_hpc.sources.discovery import Discovery
from ainerd_hpc.sources.shared_products import publish_shared
from ainerd_hpc.submission.batch import ACTIVE, BatchSystem, batch_system, call
from ainerd_hpc.submission.files import texts
from ainerd_hpc.submission.record import Submission, last_submission, new_folder
from ainerd_hpc.submission.steps import (
    SITE_FILE,
    Step,
    check_nodes,
    config_of,
    hours_of,
    kind_of,
    node_hours,
    steps,
)
from ainerd_hpc.types import Plan


def submit(
    config: RunConfig,
    site: SiteConfig,
    first: str | None = None,
    until: str | None = None,
    *,
    dry_run: bool = False,
    yes: bool = False,
    retry_failed: bool = False,
) -> None:
    """Submit what is left of the line, each job to begin when the one before it has ended.

    Parameters
    ----------
    first, until : str, optional
        Stages to begin and to end with.
    dry_run : bool
        Print every command line, config and script; do nothing.
    yes : bool
        Do not ask, however many node-hours it may take.
    retry_failed : bool
        Take what is in quarantine up again.

    Raises
    ------
    SubmissionError
        The batch system refuses a job (those before it are cancelled), jobs of this archive are still there, or the
        node-hours are above those of the site and nobody said yes.
    AinerdError
        The line cannot run.
    """
    check_nodes(config, site)
    on_workers, names = config_of("array", config, site), stage_names(config, first, until)
    found, journal = survey(on_workers), Journal(config.archive)
    if retry_failed:
        journal.forget(names)
    largest_array = batch_system(site.system).largest_array() if site.array.jobs > 1 else None
    line = steps(_plans(config, site, names, found, journal), site, config.executor, largest_array)
    if not line:
        console.print("everything is done: nothing is submitted")
        return
    print_steps(line, site)
    folder = new_folder(config.archive)
    files = texts(config, site, folder)
    if dry_run:
        _print_all(line, site, files)
        return
    _refuse_twice(config.archive)
    _confirm(node_hours(line, site), site, yes)
    with Archive(config.archive).locked():
        if found.num_files:  # none while the source is still to be simulated
            publish_shared(on_workers, found)
        keep_config(config)
        if retry_failed:
            journal.forgive(names)
            for name in names:
                journal.quarantine(name, ())
    _submit_line(Submission.create(folder, site.system, site.restarts, files), line, site)


def _plans(config: RunConfig, site: SiteConfig, names: Sequence[str], found: Discovery, journal: Journal) -> list[Plan]:
    """What the stages have left to do, after a check that it fits into their jobs."""
    every = plan(config_of("array", config, site), until=names[-1], journal=journal, found=found)
    plans = [planned for planned in every if planned.stage in names]
    check_before(names[0], [planned for planned in every if planned.stage not in names])
    for planned in plans:
        if site.of(kind_of(planned)).memory:
            check([planned], config_of(kind_of(planned), config, site))
    if quarantined := {problem.scan_id for planned in plans for problem in planned.quarantined}:
        console.print(f"{len(quarantined)} scans in quarantine are left out; --retry-failed takes them up again")
    return plans


def _submit_line(submission: Submission, line: Sequence[Step], site: SiteConfig) -> None:
    system = batch_system(site.system)
    try:
        _submit_all(submission, [(step, system.command(step, site)) for step in line], site)
    except SubmissionError:
        if not submission.jobs:
            shutil.rmtree(submission.folder)
        raise
    console.print(f"scripts and logs: {submission.folder}; `ainerd-hpc status` and `cancel` know them", markup=False)


def print_steps(line: Sequence[Step], site: SiteConfig) -> None:
    """A row a step: what it asks for."""
    rows = []
    for step in line:
        nodes = site.of(step.kind)
        stages = step.first if step.first == step.until else f"{step.first} to {step.until}"
        memory = size_text(nodes.memory) if nodes.memory else "-"
        hours, jobs = (
            f"{hours_of(step, site):.1f}",
            str(step.num_jobs) + f" + {step.worker_jobs}" * bool(step.worker_jobs),
        )
        asked = (jobs, nodes.nodes, nodes.cores or "-", memory, nodes.gpus or "-", clock(nodes.walltime), hours)
        rows.append((step.name, stages, step.kind, *asked))
    title = f"Steps: {len(line)}, {node_hours(line, site):.1f} node-hours at most, without restarts"
    print_rows(
        title, ("step", "stages", "shape", "jobs", "nodes", "cores", "memory", "GPUs", "walltime", "node-h <="), rows
    )


def command_lines(line: Sequence[Step], site: SiteConfig) -> list[list[str]]:
    """The command line of every step, `ID_OF_<step>` where an id will stand; last the one that starts the first."""
    system, lines = batch_system(site.system), []
    for number, step in enumerate(line):
        before = f"ID_OF_{line[number - 1].name}" if number else ""
        lines.append(_command_line(system, system.command(step, site), step, before))
    return [*lines, system.release(f"ID_OF_{line[0].name}")]


def _print_all(line: Sequence[Step], site: SiteConfig, files: Mapping[str, str]) -> None:
    for words in command_lines(line, site):
        print(shlex.join(words))
    for name, text in files.items():
        print(f"\n===== {name}\n{text}", end="")


def _command_line(system: BatchSystem, command: Sequence[str], step: Step, before: str) -> list[str]:
    """That of one step: behind a job, or held."""
    waits = system.dependency(before, step.needs_success) if before else [system.HOLD]
    return [*command, *waits, f"{step.kind}.{system.SUFFIX}"]


def _refuse_twice(root: Path) -> None:
    submission = last_submission(root)
    jobs = _active(submission) if submission else []
    if not submission or not jobs:
        return
    found = ", ".join(jobs)
    if submission.cancelled.issuperset(jobs):
        raise SubmissionError(
            f"archive {root}: expected no jobs of it, found {found}, cancelled and leaving; try again in a minute"
        )
    raise SubmissionError(f"archive {root}: expected no jobs of it, found {found}; wait, or `ainerd-hpc cancel` first")


def _active(submission: Submission) -> list[str]:
    jobs = [job.id for job in submission.all_jobs]
    states = batch_system(submission.system).ask(jobs)
    return [job for job in jobs if ACTIVE & states.get(job, {}).keys()]


def _confirm(hours: float, site: SiteConfig, yes: bool) -> None:
    if yes or hours <= site.ask_above:
        return
    found = f"{hours:.1f} node-hours, more than the {site.ask_above:g} of the site file (ask_above)"
    if not sys.stdin.isatty():
        raise SubmissionError(f"the line may take {found}; say --yes to submit it")
    if input(f"The line may take {found}. Submit it? [y/N] ").strip().lower() not in {"y", "yes"}:
        raise SubmissionError("nothing is submitted")


def _submit_all(
    submission: Submission, commands: Sequence[tuple[Step, Sequence[str]]], site: SiteConfig, after: str = ""
) -> None:
    """Submit steps, each to begin after the one before (the first after `after` has ended); all of them or none.

    The first is held until the others are there: a batch system soon forgets a job that has ended, and then drops one
    that is to begin after it, or lets it begin.
    """
    system, jobs = batch_system(submission.system), list[str]()
    try:
        for step, command in commands:
            waits = system.dependency(after, needs_success=False) if after and not jobs else []
            words = _command_line(system, [*command, *waits], step, jobs[-1] if jobs else "")
            jobs.append(_submit_one(submission, words, step, site))
            submission.note_job(jobs[-1], step, command)
            console.print(f"{step.name}: job {jobs[-1]}", markup=False)
        if lost := _lost(system, jobs):
            raise SubmissionError(
                f"{', '.join(lost)}: expected in the queue, found that {submission.system} dropped it"
            )
        call(system.release(jobs[0]))
    except BaseException as error:
        taken_back = _take_back(submission, jobs)
        if isinstance(error, AinerdError):
            raise SubmissionError(f"{error}; {taken_back}") from None
        raise


def _submit_one(submission: Submission, words: Sequence[str], step: Step, site: SiteConfig) -> str:
    """The id of the job."""
    try:
        output = call(words, submission.folder)
    except SubmissionError as error:
        raise SubmissionError(f"{step.name}: {error}; the site file asks for {site.asked(step.kind)}") from None
    if job := batch_system(submission.system).job_of(output):
        return job
    raise SubmissionError(f"{step.name}: {words[0]}: expected the id of a job, found {output.strip()!r}")


def _lost(system: BatchSystem, jobs: Sequence[str]) -> list[str]:
    """Jobs that were given an id and are not there; none where the batch system cannot be asked."""
    try:
        states = system.ask(jobs)
    except SubmissionError:
        return []
    return [job for job in jobs if not ACTIVE & states.get(job, {}).keys()]


def _take_back(submission: Submission, jobs: Sequence[str]) -> str:
    if not jobs:
        return "nothing is submitted"
    try:
        _cancel(submission, jobs, is_taken_back=True)
    except SubmissionError as error:
        return f"jobs {', '.join(jobs)} were submitted before it and are still there: {error}"
    return f"jobs {', '.join(jobs)}, submitted before it, are cancelled"


def _cancel(submission: Submission, jobs: Sequence[str], **more: bool) -> None:
    """Last ones first: none of them is to begin because one before it has ended."""
    batch_system(submission.system).cancel(list(reversed(jobs)))
    submission.note("cancelled", jobs=list(jobs), **more)


def cancel(root: Path) -> None:
    """Cancel all jobs of an archive that have not ended.

    Raises
    ------
    SubmissionError
        Nothing was submitted, or the batch system refuses.
    """
    submission = last_submission(root)
    if submission is None:
        raise SubmissionError(f"archive {root}: expected a submission, found none; is this the right archive?")
    jobs = _active(submission)
    if jobs:
        _cancel(submission, jobs)
    console.print(f"cancelled: {', '.join(jobs)}" if jobs else "no job of this archive is in the queue", markup=False)


def requeue(folder: Path, job_id: str) -> None:
    """Let the step of a job whose time is up go on in a new one, and submit the steps after it anew, behind that.

    For batch systems in which a job cannot put itself back into the queue. Where several elements of an array ask, the
    whole array is submitted once more, to begin when it has ended: shares that are done end at once.

    Raises
    ------
    SubmissionError
        The job is not of this submission, went on often enough, or the batch system refuses.
    """
    with Submission.locked(folder) as submission:
        number = job_id.partition(".")[0].partition("[")[0]
        known = submission.without_taken_back  # by an attempt before this one
        job = next((job for job in known if job.number == number), None)
        if job is None:
            raise SubmissionError(
                f"{folder}: expected job {job_id} in jobs.jsonl, found no such job; submit it by hand"
            )
        name = job.step.name
        last = {job.step.name: job for job in known}.values()
        line = list(dropwhile(lambda later: later.step.name != name, last))
        if line[0].id != job.id:
            console.print(f"{name}: goes on in job {line[0].id} already", markup=False)
            return
        if sum(other.step.name == name for other in known) > submission.restarts:
            raise SubmissionError(f"{name}: went on {submission.restarts} times already (restarts of the site file)")
        if len(line) > 1:
            _cancel(submission, [later.id for later in line[1:]])
        commands = [(later.step, later.command) for later in line]
        site = load_site(folder / SITE_FILE)
        _submit_all(submission, commands, site, after=job.id if job.step.num_shares else "")
