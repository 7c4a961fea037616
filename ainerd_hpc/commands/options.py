"""Options that several verbs share, and what they mean."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from ainerd_hpc.errors import ConfigError
from ainerd_hpc.stages.registry import STAGES

if TYPE_CHECKING:
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.config import RunConfig


def add_config(parser: argparse.ArgumentParser) -> None:
    """The config of a run, and what overrides it: for `config_of`."""
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG", help="YAML file; not needed with --source and --archive"
    )
    parser.add_argument("--source", metavar="FOLDER", help="folder of scans (source.path)")
    parser.add_argument("--archive", metavar="DIR", help="folder of the archive, whatever the config says")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="e.g. train.epochs=5"
    )
    kinds = ("inline", "local", "elastic", "allocation", "scheduler")
    parser.add_argument("--executor", choices=kinds, help="where tasks run (executor.kind)")
    add_debug(parser)


def add_archive(parser: argparse.ArgumentParser) -> None:
    """An archive alone: for `archive_of`."""
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="YAML file; not needed with --archive")
    parser.add_argument("--archive", type=Path, metavar="DIR", help="folder of the archive, whatever the config says")


def add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", choices=STAGES, metavar="STAGE", help="begin with this stage")
    parser.add_argument("--until", choices=STAGES, metavar="STAGE", help="end after this stage")


def add_retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--retry-failed", action="store_true", help="take quarantined scans up again")


def config_of(options: argparse.Namespace, site: Path | None = None) -> RunConfig:
    """The config with what the options of `add_config` say, and with a site."""
    from ainerd_hpc.loading import load

    given = {
        "source.path": options.source,
        "archive": options.archive,
        "executor.kind": options.executor,
        "executor.site": str(site) if site else None,
    }
    quoted = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items() if value)
    return load(options.config, [*options.overrides, *quoted])


def archive_of(options: argparse.Namespace) -> Archive:
    """The archive that is meant, where nothing else of the config matters."""
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.loading import load

    if not (options.config or options.archive):
        raise ConfigError(f"{options.verb}: expected a config or an archive, found neither; give --archive DIR")
    return Archive(Path(options.archive).expanduser() if options.archive else load(options.config).archive)


def count(text: str) -> int:
    """A whole number above 0; argparse names the option."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def share(text: str) -> tuple[int, int]:
    """`3/8`: the third of eight shares; argparse names the option."""
    number, num_shares = (count(part) for part in text.split("/"))
    if number > num_shares:
        raise ValueError
    return number, num_shares


class Terminated(BaseException):
    """SIGTERM: what is at work is put away on the way out, as for any error."""


def end_in_order() -> None:
    """Have SIGTERM raise `Terminated` from now on, once: `timeout` sends it to a process and to its group."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would kill a process that is on its way out
    raise Terminated
