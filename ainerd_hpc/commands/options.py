"""Options that several verbs share, and what they mean."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ainerd_hpc.errors import ConfigError
from ainerd_hpc.stages.registry import STAGES

if TYPE_CHECKING:
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.config import RunConfig


def add_config(parser: argparse.ArgumentParser) -> None:
    """The config of a run, and what overrides it: for `config_of`."""
    _add_place(parser)
    parser.add_argument("--source", metavar="FOLDER", help="folder of scans (source.path)")
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """What overrides keys of a config, and where its tasks run."""
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="e.g. train.epochs=5"
    )
    kinds = ("inline", "local", "elastic", "allocation", "scheduler")
    parser.add_argument("--executor", choices=kinds, help="where tasks run (executor.kind)")
    site = "what is special about the machine: configs/sites/*.yaml (executor.site)"
    parser.add_argument("--site", metavar="FILE", help=site)
    add_debug(parser)


def add_archive(parser: argparse.ArgumentParser) -> None:
    """An archive alone: for `archive_of`."""
    _add_place(parser)
    without_overrides(parser)


def without_overrides(parser: argparse.ArgumentParser) -> None:
    """Nothing but its archive overrides the config: for `config_of`."""
    parser.set_defaults(source=None, overrides=(), executor=None, site=None)


def _add_place(parser: argparse.ArgumentParser) -> None:
    config = "YAML file, or an archive, which keeps the config that it was made with"
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help=config)
    parser.add_argument("--archive", metavar="DIR", help="folder of the archive, whatever the config says")


def add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", choices=STAGES, metavar="STAGE", help="begin with this stage")
    parser.add_argument("--until", choices=STAGES, metavar="STAGE", help="end after this stage")


def add_retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--retry-failed", action="store_true", help="take quarantined scans up again")


def config_of(options: argparse.Namespace) -> RunConfig:
    """The config with what the options of `add_config` say.

    CONFIG says all: a file, or an archive, whose kept config it is then. `--archive` says only where, if there is a
    CONFIG or a `--source`; alone it is CONFIG, too.
    """
    from ainerd_hpc.loading import load

    path, archive = options.config, options.archive
    if path is None and archive and not options.source and _kept(archive).exists():
        path = Path(archive).expanduser()
    if path is not None and path.is_dir():
        path, archive = _kept(path), archive or path
        if not path.exists():
            expected = f"{options.config}: expected an archive that keeps its config"
            raise ConfigError(f"{expected}, found no {path}; give the config file")
    given = {
        "source.path": options.source,
        "archive": archive,
        "executor.kind": options.executor,
        "executor.site": options.site,
    }
    quoted = (f"{key}={json.dumps(str(value), ensure_ascii=False)}" for key, value in given.items() if value)
    overrides = [*options.overrides, *quoted]
    _check_once(overrides)
    config = load(path, overrides)
    if config.executor.kind == "elastic" and not config.executor.site and _kept(config.archive).exists():
        site = load(_kept(config.archive)).executor.site  # as it was submitted
        config = config.model_copy(update={"executor": config.executor.model_copy(update={"site": site})})
    return config


def _check_once(overrides: Sequence[str]) -> None:
    """Refuse two values of a key, also where one of them comes with its whole section."""
    values: dict[str, str] = {}
    for key, _, value in (override.partition("=") for override in overrides):
        for other in values:
            if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                found = f"{other}={values[other]} and {key}={value}"
                raise ConfigError(
                    f"arguments: expected '{max(other, key, key=len)}' once, found {found}; keep one of them"
                )
        values[key] = value


def _kept(archive: str | Path) -> Path:
    from ainerd_hpc.archive.layout import Archive

    return Archive(Path(archive).expanduser()).config_path


def archive_of(options: argparse.Namespace) -> Archive:
    """The archive that is meant, where nothing else of the config matters."""
    from ainerd_hpc.archive.layout import Archive

    if not (options.config or options.archive):
        raise ConfigError(f"{options.verb}: expected a config or an archive, found neither; give --archive DIR")
    is_folder = options.config is not None and options.config.is_dir()
    folder = options.archive or (options.config if is_folder else None)
    return Archive(Path(folder).expanduser() if folder else config_of(options).archive)


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
