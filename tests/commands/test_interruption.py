"""SIGTERM and Ctrl-C end in one line, whatever a library makes of them on its way out."""

from __future__ import annotations

import argparse
import threading

import pytest

from ainerd_hpc.cli import main
from ainerd_hpc.commands import schema
from ainerd_hpc.commands.options import Terminated
from ainerd_hpc.errors import interruption
from ainerd_hpc.executors.tasks import Inline
from ainerd_hpc.types import Task, TaskResult


def _hit_in_a_lock(asked: BaseException) -> None:
    """As a compiler that is hit while it takes its lock: the lock then raises an error of its own."""
    lock = threading.RLock()
    with lock:
        lock.release()
        raise asked


def _work(task: Task) -> TaskResult:
    _hit_in_a_lock(KeyboardInterrupt())
    return TaskResult(task.key, task.digest)


def test_a_task_that_is_interrupted_has_not_failed() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(Inline(1).map(_work, [Task("scan", "digest", 0, 0, 0)]))


@pytest.mark.parametrize("asked", [KeyboardInterrupt(), Terminated()])
def test_a_verb_that_is_interrupted_ends_in_one_line(
    asked: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: argparse.Namespace) -> None:
        _hit_in_a_lock(asked)

    monkeypatch.setattr(schema, "run", run)
    assert main(["schema"]) == 130
    assert capsys.readouterr().err == "ainerd-hpc: interrupted; the same command goes on where it stopped\n"


def test_an_error_is_no_interruption() -> None:
    with pytest.raises(ValueError, match="invalid") as error:
        int("x")
    assert interruption(error.value) is None
