"""The command line: one verb a task. Heavy imports wait inside the handlers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ainerd_hpc import __version__
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.types import STAGES

if TYPE_CHECKING:
    from ainerd_hpc.config import RunConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and give the exit code: 0 all done, 1 failed, 2 wrong usage, 3 some scans quarantined."""
    options = _parser().parse_args(arguments)
    handler: Callable[[argparse.Namespace], None] = options.handler
    try:
        handler(options)
    except AinerdError as error:
        if options.debug and error.exit_code != 3:
            raise
        print(f"ainerd-hpc: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("ainerd-hpc: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except OSError as error:
        if options.debug:
            raise
        print(f"ainerd-hpc: {error}; mend this and run the same command again", file=sys.stderr)
        return 1
    except Exception as error:
        if options.debug:
            raise
        text = " ".join(str(error).split())
        print(f"ainerd-hpc: unexpected {type(error).__name__}: {text}; --debug shows where", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ainerd-hpc",
        description="Reprocess an archive of XPCS scans and give back one map of all its dynamics.",
        epilog="exit codes: 0 all done, 1 failed, 2 wrong usage or config, 3 some scans are in quarantine",
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    common = _common_options()
    run = verbs.add_parser("run", parents=[common], help="the whole line, or a part of it; goes on where it stopped")
    run.add_argument("--from", dest="first", choices=STAGES, metavar="STAGE", help="begin with this stage")
    run.add_argument("--until", choices=STAGES, metavar="STAGE", help="end after this stage")
    _add_retry(run)
    run.set_defaults(handler=_run)
    for stage, text in STAGES.items():
        verb = verbs.add_parser(stage, parents=[common], help=text)
        _add_retry(verb)
        verb.set_defaults(handler=_run, first=stage, until=stage)
    verbs.add_parser("plan", parents=[common], help="what is left to do: tasks, bytes, memory").set_defaults(
        handler=_plan
    )
    verbs.add_parser("status", parents=[common], help="where the archive stands").set_defaults(handler=_status)
    verbs.add_parser("calibrate", help="measure this machine once, so that the fastest way is chosen").set_defaults(
        handler=_calibrate, debug=False
    )
    schema = verbs.add_parser("schema", help="write the JSON schema of the config, for editors")
    schema.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    schema.set_defaults(handler=_schema, debug=False)
    return parser


def _common_options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG", help="YAML file; not needed with --source and --archive"
    )
    common.add_argument("--source", metavar="FOLDER", help="folder of scans (source.path)")
    common.add_argument("--archive", metavar="DIR", help="folder of the archive, whatever the config says")
    common.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="e.g. train.epochs=5"
    )
    common.add_argument("--executor", choices=("inline", "local"), help="where tasks run (executor.kind)")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return common


def _add_retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--retry-failed", action="store_true", help="take quarantined scans up again")


def _config(options: argparse.Namespace) -> RunConfig:
    from ainerd_hpc.config import SimulateConfig, load

    given = {"source.path": options.source, "archive": options.archive, "executor.kind": options.executor}
    quoted = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items() if value)
    config = load(options.config, [*options.overrides, *quoted])
    if options.verb == "simulate" and config.simulate is None:
        return config.model_copy(update={"simulate": SimulateConfig()})
    return config


def _run(options: argparse.Namespace) -> None:
    from ainerd_hpc.pipeline import Run

    Run(_config(options), options.first, options.until, options.retry_failed, options.debug).execute()


def _plan(options: argparse.Namespace) -> None:
    from ainerd_hpc.console import print_plans
    from ainerd_hpc.pipeline import allowed_memory, check, plan

    config = _config(options)
    plans = plan(config)
    print_plans(plans, [allowed_memory(config, planned.shape) for planned in plans])
    check(plans, config)


def _status(options: argparse.Namespace) -> None:
    from ainerd_hpc.archive import Archive
    from ainerd_hpc.console import print_status
    from ainerd_hpc.pipeline import last_run, plan

    config = _config(options)
    print_status(plan(config), last_run(Archive(config.archive)))


def _calibrate(options: argparse.Namespace) -> None:
    from ainerd_hpc.costs import calibrate, costs_path
    from ainerd_hpc.kernels.choice import Costs, even_density

    costs = calibrate()
    for name, measured, stated in zip(Costs._fields, costs, Costs(), strict=True):
        print(f"{name:16} {measured:8.2e} s, {measured / stated:.2f} times the stated constant")
    print(f"events are faster below {even_density(costs):.3f} photons per pixel and frame in 1000 frames")
    print(f"kept in {costs_path()}")


def _schema(options: argparse.Namespace) -> None:
    from ainerd_hpc.config import RunConfig
    from ainerd_hpc.publishing import write_text

    text = json.dumps(RunConfig.model_json_schema(), indent=2) + "\n"
    if options.output:
        write_text(options.output, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
