"""The command line: one verb a task, in a module of its own, which is loaded when the verb is used."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ainerd_hpc import __version__
from ainerd_hpc.commands.options import Terminated
from ainerd_hpc.commands.output import keep_output_going
from ainerd_hpc.errors import AinerdError, interruption
from ainerd_hpc.site.waiting import wait_briefly
from ainerd_hpc.stages.registry import STAGES

VERBS: Mapping[str, tuple[str, str]] = {
    "run": ("run", "the whole line, or a part of it; goes on where it stopped"),
    **{stage: ("stage", text) for stage, (_, text) in STAGES.items()},
    "plan": ("plan", "what is left to do: tasks, bytes, memory, time"),
    "status": ("status", "where the archive stands, and the jobs of its stages"),
    "watch": ("watch", "take scans up as they appear, and say at once which are of a new or rare kind"),
    "similar": ("similar", "the maps that are nearest to a scan, a map, or a file that is not in the archive"),
    "relate": ("relate", "what goes with the clusters: sample log, metadata, sudden steps"),
    "models": ("models", "the models of an archive: what they make of its maps, whether they know such maps"),
    "verify": ("verify", "read every product through, and make anew what is damaged"),
    "submit": ("submit", "the whole line, or a part of it, to a batch system"),
    "doctor": ("doctor", "check a site in a minute: each line says what to do"),
    "cancel": ("cancel", "cancel the jobs of an archive that have not ended"),
    "requeue": ("requeue", "for jobs: go on in another one, where PBS cannot put back a job"),
    "calibrate": ("calibrate", "measure this machine once, so that the fastest way is chosen"),
    "scale": ("scale", "measure how the stages scale over workers; writes a report"),
    "replay": ("replay", "what a stage would take on ever more workers, and what limits it"),
    "catalog": ("catalog", "look at source folders, keep what is there as one table, ask it"),
    "qmap": ("qmap", "make a partition (q map) from a geometry and masks, or look at one"),
    "figures": ("figures", "figures for papers as PDF and PNG, with their numbers as CSV"),
    "trace": ("trace", "where a product, a figure or a page comes from: sources, runs, versions, config, model"),
    "export": ("export", "write correlations as files that other programs open"),
    "schema": ("schema", "write the JSON schema of the config, for editors"),
}
"""verb -> its module in `commands`, with `add_arguments(parser)` and `run(options)`, and what it is for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and give the exit code: 0 done, 1 failed, 2 wrong usage, 3 some scans set aside, 130 interrupted."""
    if arguments is None:
        keep_output_going()
        wait_briefly()
    words = sys.argv[1:] if arguments is None else list(arguments)
    verb = next((word for word in words if not word.startswith("-")), "")
    options = _parser(verb).parse_args(words)
    try:
        _run(options)
    except AinerdError as error:
        if options.debug and error.exit_code != 3:
            raise
        print(f"ainerd-hpc: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Terminated):
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


def _run(options: argparse.Namespace) -> None:
    """Run the verb; an error on the way out of an interruption is that interruption."""
    try:
        _module(options.verb).run(options)
    except Exception as error:
        if asked := interruption(error):
            raise asked from None
        raise


def _parser(verb: str) -> argparse.ArgumentParser:
    """All verbs, and the arguments of the one that is used."""
    parser = argparse.ArgumentParser(
        prog="ainerd-hpc",
        description="Reprocess an archive of XPCS scans and give back one map of all its dynamics.",
        epilog="exit codes: 0 all done, 1 failed, 2 wrong usage or config, 3 some scans are in quarantine, "
        "130 interrupted or terminated; the same command goes on",
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    parser.set_defaults(debug=False)
    for name, (_, text) in VERBS.items():
        its_parser = verbs.add_parser(name, help=text)
        if name == verb:
            _module(name).add_arguments(its_parser)
    return parser


def _module(verb: str) -> Any:
    return importlib.import_module(f"ainerd_hpc.commands.{VERBS[verb][0]}")


if __name__ == "__main__":
    sys.exit(main())
