"""The verb `requeue`: for jobs: go on in another one, where PBS cannot put back a job."""

from __future__ import annotations

import argparse
from pathlib import Path

from ainerd_hpc.commands.options import add_debug


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the submission and the job."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the submission, ARCHIVE/jobs/DATE")
    parser.add_argument("job", metavar="JOB", help="id of the job whose time is up")
    add_debug(parser)


def run(options: argparse.Namespace) -> None:
    """Submit the job that goes on."""
    from ainerd_hpc.submission.chain import requeue

    requeue(options.folder, options.job)
