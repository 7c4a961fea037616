"""The verb `watch`: scans as they appear."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ainerd_hpc.commands.options import add_overrides, config_of, end_in_order
from ainerd_hpc.errors import ConfigError

if TYPE_CHECKING:
    from ainerd_hpc.config import RunConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where scans appear, the archive that knows others, and what is done for unusual ones."""
    parser.add_argument("folder", metavar="SOURCE", type=Path, help="folder in which scans appear")
    parser.add_argument("--archive", metavar="DIR", required=True, help="archive whose clusters are known")
    command = "command for unusual scans, e.g. 'notify --user me'; it is given the scan's line as standard input"
    parser.add_argument("--on-new", metavar="COMMAND", default="", help=command)
    parser.add_argument("--every", metavar="SECONDS", type=_seconds, default=1.0, help="from look to look (1)")
    idle = "end when nothing has come for so long"
    parser.add_argument("--until-idle", metavar="SECONDS", type=_seconds, default=math.inf, help=idle)
    parser.set_defaults(config=None, source=None)
    add_overrides(parser)


def run(options: argparse.Namespace) -> None:
    """Watch until it is ended."""
    end_in_order()  # before what takes seconds to import
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.watching.watch import Options, watch

    if not Archive(Path(options.archive).expanduser()).config_path.exists():
        raise ConfigError(
            f"--archive {options.archive}: expected an archive with clusters, to tell what is new, found none; "
            "make one with `ainerd-hpc run` first"
        )
    config = with_folder(config_of(options), options.folder)
    watch(config, Options(options.every, _words(options.on_new), options.until_idle))


def with_folder(config: RunConfig, folder: Path) -> RunConfig:
    """The config of an archive with one more folder of scans, where that is not below one of its own."""
    from ainerd_hpc.config import one_form

    folder, roots = one_form(folder.expanduser()), config.source.roots
    if any(folder.is_relative_to(root) for root in roots):
        return config
    path = (*(root for root in roots if not root.is_relative_to(folder)), folder)
    more = {"source": config.source.model_copy(update={"path": path}), "simulate": None}  # it has one folder alone
    return config.model_copy(update=more)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--on-new {command!r}: expected a command, found {error}; correct the quotes") from None


def _seconds(text: str) -> float:
    """A time above 0; argparse names the option."""
    if not (seconds := float(text)) > 0:
        raise ValueError
    return seconds
