"""How each stage stands: from one question to the batch system, the logs of its jobs, and the products."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ainerd_hpc.archive.journal import pace
from ainerd_hpc.console import rate_text, time_text
from ainerd_hpc.errors import SubmissionError
from ainerd_hpc.planning import place_of
from ainerd_hpc.submission.batch import ACTIVE, State, batch_system
from ainerd_hpc.submission.record import Job, Submission, exit_code, last_error, last_submission
from ainerd_hpc.types import Plan, StageStatus

_RECENT = 3600.0
"""Seconds over which the rate is taken."""
_MOST_ACTIVE = (State.RUNNING, State.QUEUED, State.WAITING)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of the job of a step."""

    job: Job
    counts: Counter[State]
    """Its elements by state; of those that have ended, their logs say how, or the batch system does."""
    error: str = ""
    """Why it failed, and where that is written."""
    was_cancelled: bool = False
    """Whether `cancel` did it; a job may also be cancelled because what it waited for did not end well."""

    @property
    def state(self) -> State | None:
        """The liveliest of its elements, else the worst; None where nothing is known."""
        order = [*_MOST_ACTIVE, State.FAILED, State.CANCELLED, State.DONE]
        return next((state for state in order if self.counts[state]), None)


def stage_statuses(root: Path, plans: Sequence[Plan]) -> tuple[list[StageStatus], list[str]]:
    """A status for each plan, and lines that go with them; none where nothing was submitted.

    Parameters
    ----------
    root : Path
        Of the archive.
    plans : sequence of Plan
        What every stage has left to do.
    """
    submission = last_submission(root)
    if submission is None:
        return [], []
    notes, states = [], dict[str, Counter[State]]()
    try:
        states.update(batch_system(submission.system).ask([job.id for job in submission.jobs]))
    except SubmissionError as error:
        notes.append(f"the batch system cannot be asked: {error}")
    outcomes = _waiting([_outcome(submission, job, states.get(job.id, Counter())) for job in submission.jobs])
    notes += [f"{one.job.step.name}, job {one.job.id}: {one.error}" for one in outcomes if one.error]
    notes.append(f"submitted to {submission.system}; scripts and logs: {submission.folder}")
    words = _words(outcomes)
    return [_status(root, planned, list(zip(outcomes, words, strict=True))) for planned in plans], notes


def statuses_here(root: Path, plans: Sequence[Plan]) -> list[StageStatus]:
    """A status for each plan of a run that is at work and was not submitted: the first that has something to do."""
    statuses = [StageStatus() for _ in plans]
    place = next((place for place, planned in enumerate(plans) if planned.tasks), None)
    if place is not None:
        rate = pace(root, plans[place].stage, time.time() - _RECENT)
        left = time_text(len(plans[place].tasks) / rate) if rate else ""
        statuses[place] = StageStatus("running", rate=rate_text(rate) if rate else "", left=left)
    return statuses


def _outcome(submission: Submission, job: Job, asked: Counter[State]) -> _Outcome:
    codes = {log: exit_code(log) for log in submission.logs(job)}
    counts = Counter(State.FAILED if code else State.DONE for code in codes.values() if code is not None)
    active = Counter({state: number for state, number in asked.items() if state in ACTIVE})
    if active:
        num_left = job.step.num_jobs - active.total()  # the log of an element that runs again tells of its last end
        return _Outcome(job, active + Counter({state: min(number, num_left) for state, number in counts.items()}))
    if asked.total() == job.step.num_jobs:
        counts = asked
    elif codes:
        counts[State.FAILED] += job.step.num_jobs - counts.total()  # killed, and forgotten by the batch system
    if job.id in submission.cancelled:
        counts = Counter({State.DONE: counts[State.DONE], State.CANCELLED: job.step.num_jobs - counts[State.DONE]})
    log = next((log for log, code in codes.items() if code != 0), None)
    error = f"{last_error(log)} ({log.name})" if log and counts[State.FAILED] > 0 else ""
    return _Outcome(job, +counts, error, job.id in submission.cancelled)


def _waiting(outcomes: Sequence[_Outcome]) -> list[_Outcome]:
    """Queued steps wait for the one before, where that has not ended; not every batch system says so."""
    found: list[_Outcome] = []
    for outcome in outcomes:
        if outcome.state is State.QUEUED and found and found[-1].state in ACTIVE:
            outcome = replace(outcome, counts=Counter({State.WAITING: outcome.counts.total()}))
        found.append(outcome)
    return found


def _words(outcomes: Sequence[_Outcome]) -> list[str]:
    """How each step stands; what did not begin because one before it did not end well says so."""
    words, culprit = [], ""
    for outcome in outcomes:
        state, name = outcome.state, outcome.job.step.name
        if state is State.DONE:
            culprit = ""  # what finishes a stage may mend what the array before it left
        if culprit and (state is None or (state is State.CANCELLED and not outcome.was_cancelled)):
            words.append(f"not run: {culprit}")
        else:
            words.append(state.value if state else "unknown")
        if state in (State.FAILED, State.CANCELLED):
            culprit = culprit or f"{name} {words[-1]}"
    return words


def _status(root: Path, planned: Plan, steps: Sequence[tuple[_Outcome, str]]) -> StageStatus:
    place = place_of(planned.stage)
    own = [
        (outcome, word)
        for outcome, word in steps
        if place_of(outcome.job.step.first) <= place <= place_of(outcome.job.step.until)
    ]
    active = [(outcome, word) for outcome, word in own if outcome.state in ACTIVE]
    if not own or not (active or planned.tasks or planned.quarantined):
        return StageStatus()
    outcome, word = (active or [one for one in own if one[1] != "done"] or own[-1:])[0]
    jobs = ", ".join(f"{outcome.counts[state]} {state.value}" for state in State if outcome.counts[state])
    if outcome.state is not State.RUNNING:
        return StageStatus("" if word == "done" else word, jobs)
    rate = pace(root, planned.stage, max(outcome.job.time, time.time() - _RECENT))
    left = time_text(len(planned.tasks) / rate) if rate and planned.tasks else ""
    return StageStatus(word, jobs, rate_text(rate) if rate else "", left)
