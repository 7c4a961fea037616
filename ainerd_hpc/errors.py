"""The errors a user may see. Each is one line: what, where, expected, found, next step."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_DAMAGE = {None, errno.ENOENT, errno.ENOTDIR, errno.EINVAL}
"""Numbers of the errors that a missing or damaged file gives."""


class AinerdError(Exception):
    """Base of every error that is reported to the user as one line, without a traceback."""

    exit_code = 1


class ConfigError(AinerdError):
    """A config file, an override or an argument is wrong: file, line and key are named."""

    exit_code = 2


class PlanError(AinerdError):
    """The planned work cannot be done here: the numbers and the knob to turn are named."""


class ArchiveError(AinerdError):
    """A product of the archive is missing, damaged or of another layout."""


class ProductError(ArchiveError):
    """A product of the archive is missing or damaged. A run that meets it makes it anew.

    Parameters
    ----------
    path : Path
        Where it lies, or should.
    problem : str
        What was expected and what was found.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)  # positional, as in ScanError
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; run again, which makes it anew"


def is_of_the_system(error: Exception) -> bool:
    """Whether an error of reading a file says nothing about what the file holds: a lost mount, a missing permission."""
    return isinstance(error, OSError) and error.errno not in _DAMAGE


@contextmanager
def reading_product(path: Path, problem: str) -> Iterator[None]:
    """Turn whatever reading a missing or damaged product leads to into a ProductError.

    Parameters
    ----------
    path : Path
        Of the product.
    problem : str
        What is said of it, with `{}` for the reason.
    """
    try:
        yield
    except Exception as error:  # what is damaged can say anything
        if is_of_the_system(error):
            raise
        raise ProductError(path, problem.format(" ".join(str(error).split()))) from None


class SubmissionError(AinerdError):
    """The batch system refused, or cannot be reached: its message is passed on."""


class ScanError(AinerdError):
    """One scan cannot be processed. It is quarantined; the run goes on.

    Parameters
    ----------
    where : str
        File, and dataset or frame numbers, at fault.
    problem : str
        What is wrong, with what was expected and what was found.
    next_step : str
        What the user can do about it.
    """

    def __init__(self, where: str, problem: str, next_step: str) -> None:
        super().__init__(where, problem, next_step)  # positional: plain pickle can rebuild it on another process
        self.where, self.problem, self.next_step = where, problem, next_step

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.next_step}"


class UnavailableError(ScanError):
    """What a scan needs cannot be had now, for a cause outside of it that may pass: rights, a mount, a program that
    still writes it. Nothing of it is remembered: the next run tries again."""


class QuarantinedError(AinerdError):
    """The run ended, but some scans are in quarantine."""

    exit_code = 3


def interruption(error: BaseException) -> BaseException | None:
    """What asked to end (Ctrl-C, SIGTERM) behind an error: a library that is hit may raise its own on the way out."""
    behind: BaseException | None = error
    while isinstance(behind, Exception | GeneratorExit | SystemExit):
        behind = behind.__cause__ or behind.__context__
    return behind
