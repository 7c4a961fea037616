"""The command line: one verb a task. Heavy imports wait inside the handlers."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ainerd_hpc import __version__
from ainerd_hpc.errors import AinerdError
from ainerd_hpc.stages.registry import STAGES

if TYPE_CHECKING:
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.config import RunConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and give the exit code: 0 done, 1 failed, 2 wrong usage, 3 some scans set aside, 130 interrupted."""
    options = _parser().parse_args(arguments)
    handler: Callable[[argparse.Namespace], None] = options.handler
    try:
        handler(options)
    except AinerdError as error:
        if options.debug and error.exit_code != 3:
            raise
        print(f"ainerd-hpc: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, _Terminated):
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
        epilog="exit codes: 0 all done, 1 failed, 2 wrong usage or config, 3 some scans are in quarantine, "
        "130 interrupted or terminated; the same command goes on",
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    common = _common_options()
    run = verbs.add_parser("run", parents=[common], help="the whole line, or a part of it; goes on where it stopped")
    _add_part(run)
    _add_retry(run)
    run.set_defaults(handler=_run, share=None)
    for stage, (_, text) in STAGES.items():
        verb = verbs.add_parser(stage, parents=[common], help=text)
        _add_retry(verb)
        shared = "only the I-th of N shares of its tasks, while other processes do theirs; the verb alone then finishes"
        verb.add_argument("--share", type=_share, metavar="I/N", help=shared)
        verb.set_defaults(handler=_run, first=stage, until=stage)
    verbs.add_parser("plan", parents=[common], help="what is left to do: tasks, bytes, memory").set_defaults(
        handler=_plan
    )
    status = verbs.add_parser("status", parents=[common], help="where the archive stands, and the jobs of its stages")
    status.set_defaults(handler=_status)
    _add_submit(verbs.add_parser("submit", parents=[common], help="the whole line, or a part of it, to a batch system"))
    _add_doctor(verbs.add_parser("doctor", help="check a site in a minute: each line says what to do"))
    _add_cancel(verbs.add_parser("cancel", help="cancel the jobs of an archive that have not ended"))
    _add_requeue(verbs.add_parser("requeue", help="for jobs: go on in another one, where PBS cannot put back a job"))
    verbs.add_parser("calibrate", help="measure this machine once, so that the fastest way is chosen").set_defaults(
        handler=_calibrate, debug=False
    )
    _add_catalog(verbs.add_parser("catalog", help="look at source folders, keep what is there as one table, ask it"))
    _add_qmap(verbs.add_parser("qmap", help="make a partition (q map) from a geometry and masks, or look at one"))
    _add_export(verbs.add_parser("export", help="write correlations as files that other programs open"))
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
    kinds = ("inline", "local", "elastic", "allocation", "scheduler")
    common.add_argument("--executor", choices=kinds, help="where tasks run (executor.kind)")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return common


def _add_part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", choices=STAGES, metavar="STAGE", help="begin with this stage")
    parser.add_argument("--until", choices=STAGES, metavar="STAGE", help="end after this stage")


def _add_retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--retry-failed", action="store_true", help="take quarantined scans up again")


def _add_submit(parser: argparse.ArgumentParser) -> None:
    site = "what is special about the machine: configs/sites/*.yaml"
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help=site)
    _add_part(parser)
    _add_retry(parser)
    parser.add_argument("--dry-run", action="store_true", help="print every command line and script, submit nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask, however many node-hours it may take")
    parser.set_defaults(handler=_submit)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="CONFIG", help="YAML file, for its archive and its site"
    )
    parser.add_argument("--site", type=Path, metavar="FILE", help="also the batch system, with jobs through its queue")
    parser.add_argument("--archive", type=Path, metavar="DIR", help="its file system is checked; default: here")
    parser.add_argument("--wait", type=_count, default=30, metavar="SECONDS", help="for a job to answer; default: 30")
    parser.add_argument("--two-nodes", action="store_true", help="try the network, where the site needs one node only")
    parser.add_argument("--json", action="store_true", help="all findings as one JSON list")
    parser.add_argument("--node", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)  # in its jobs
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_doctor)


def _add_cancel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="YAML file; not needed with --archive")
    parser.add_argument("--archive", type=Path, metavar="DIR", help="folder of the archive, whatever the config says")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_cancel)


def _add_requeue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the submission, ARCHIVE/jobs/DATE")
    parser.add_argument("job", metavar="JOB", help="id of the job whose time is up")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_requeue)


def _add_catalog(parser: argparse.ArgumentParser) -> None:
    parser.usage = "ainerd-hpc catalog (ROOT... | show | query CONDITION) [--archive DIR] [--config FILE] [options]"
    parser.add_argument("what", nargs="*", metavar="ROOT", help="folders of scans; default: those of the config")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file; not needed with --archive")
    parser.add_argument("--archive", metavar="DIR", help="folder of the archive: the catalog goes there")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--limit", type=_count, default=20, metavar="N", help="rows to show; default: 20")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the chosen rows as .csv or .parquet")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_catalog, source=None, executor=None)


def _add_qmap(parser: argparse.ArgumentParser) -> None:
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--output", type=Path, metavar="FILE", help="the partition file to be made, <scan>_qmap.hdf")
    task.add_argument("--show", type=Path, metavar="FILE", help="print the bins of a partition file of either layout")
    parser.add_argument(
        "--plot", nargs="?", type=Path, const=Path(), metavar="PNG", help="draw it; default: beside FILE"
    )
    pixels = parser.add_argument_group("pixels").add_mutually_exclusive_group()
    pixels.add_argument("--scan", type=Path, metavar="RAWFILE", help="geometry, shape and dead pixels of this scan")
    pixels.add_argument("--shape", nargs=2, type=_count, metavar=("ROWS", "COLUMNS"))
    geometry = parser.add_argument_group("geometry, instead of what the scan says")
    geometry.add_argument("--poni", type=Path, metavar="FILE", help="pyFAI's calibration, of a tilted detector too")
    center = "pixels; a whole number is the middle of a pixel (pyFAI: half a pixel more)"
    geometry.add_argument("--beam-center", nargs=2, type=float, metavar=("X", "Y"), help=center)
    for name, unit in {"distance": "m", "energy": "keV", "pixel-size": "m"}.items():
        geometry.add_argument(f"--{name}", type=float, default=float("nan"), metavar=unit.upper(), help=unit)
    masks = parser.add_argument_group("masks (EDF, .npy, TIFF, HDF5 as FILE or FILE::DATASET), all of which count")
    masks.add_argument(
        "--mask", nargs="+", type=Path, default=[], metavar="FILE", help="not zero: masked (pyFAI, fabio)"
    )
    masks.add_argument("--mask-invert", nargs="+", type=Path, default=[], metavar="FILE", help="not zero: used (APS)")
    bins = parser.add_argument_group("bins")
    q, phi = bins.add_mutually_exclusive_group(), bins.add_mutually_exclusive_group()
    q.add_argument("--q-bins", type=_count, default=10, metavar="N", help="default: 10")
    q.add_argument("--q-edges", nargs="+", type=float, metavar="Q", help="1/angstrom")
    bins.add_argument("--q-range", nargs=2, type=float, metavar=("A", "B"), help="default: of all valid pixels")
    bins.add_argument("--spacing", choices=("linear", "log"), default="linear", help="of the q bins; default: linear")
    phi.add_argument("--phi-bins", type=_count, default=1, metavar="N", help="default: 1, rings")
    phi.add_argument("--phi-edges", nargs="+", type=float, metavar="PHI", help="degrees: 0 to the right, 90 upwards")
    bins.add_argument("--symmetry", type=_count, default=1, metavar="N", help="phi is taken modulo 360 / N")
    bins.add_argument("--static-per-q", type=_count, default=10, metavar="N", help="static bins along q; default: 10")
    bins.add_argument("--static-per-phi", type=_count, default=1, metavar="N", help="static bins along phi; default: 1")
    parser.add_argument("--legacy", action="store_true", help="write the former layout of the APS, /data")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_qmap)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="YAML file; not needed with --archive")
    parser.add_argument("--archive", type=Path, metavar="DIR", help="folder of the archive, whatever the config says")
    formats = "aps: results that pyXpcsViewer opens; nxxpcs: by the NeXus definition; csv: g2 and fits as tables"
    parser.add_argument("--format", choices=("aps", "nxxpcs", "csv"), required=True, help=formats)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a file a scan goes here")
    parser.add_argument("--scan", action="append", default=[], metavar="ID", help="this scan alone; may be repeated")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_export)


def _catalog(options: argparse.Namespace) -> None:
    from ainerd_hpc.commands import catalog as cataloguing
    from ainerd_hpc.errors import ConfigError

    task, *words = options.what or [""]
    if task not in ("show", "query"):
        if options.what:
            options.overrides.append(f"source.path={json.dumps(options.what, ensure_ascii=False)}")
        cataloguing.make(_config(options))
        return
    condition = " ".join(words)
    if (task == "query") == (not condition):
        raise ConfigError(f"catalog {task}: expected `catalog show` or `catalog query CONDITION`, found {words}")
    cataloguing.ask(_archive(options), condition, options.limit, options.output)


def _archive(options: argparse.Namespace) -> Archive:
    """The archive that is meant, where nothing else of the config matters."""
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.config import load
    from ainerd_hpc.errors import ConfigError

    if not (options.config or options.archive):
        raise ConfigError(f"{options.verb}: expected a config or an archive, found neither; give --archive DIR")
    return Archive(Path(options.archive).expanduser() if options.archive else load(options.config).archive)


def _count(text: str) -> int:
    """A whole number above 0; argparse names the option."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _share(text: str) -> tuple[int, int]:
    """`3/8`: the third of eight shares; argparse names the option."""
    number, num_shares = (_count(part) for part in text.split("/"))
    if number > num_shares:
        raise ValueError
    return number, num_shares


def _config(options: argparse.Namespace) -> RunConfig:
    from ainerd_hpc.config import SimulateConfig, load

    given = {"source.path": options.source, "archive": options.archive, "executor.kind": options.executor}
    if options.verb == "submit":
        given["executor.site"] = str(options.site)
    quoted = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items() if value)
    config = load(options.config, [*options.overrides, *quoted])
    if options.verb == "simulate" and config.simulate is None:
        return config.model_copy(update={"simulate": SimulateConfig()})
    return config


def _run(options: argparse.Namespace) -> None:
    from ainerd_hpc.pipeline import Run

    signal.signal(signal.SIGTERM, _end_in_order)
    run = Run(_config(options), options.first, options.until, options.retry_failed, options.debug)
    if options.share:
        run.execute_share(*options.share)
    else:
        run.execute()


class _Terminated(BaseException):
    """SIGTERM: what is at work is put away on the way out, as for any error."""


def _end_in_order(*_: object) -> None:
    raise _Terminated


def _plan(options: argparse.Namespace) -> None:
    from ainerd_hpc.console import print_plans, print_rows, size_text
    from ainerd_hpc.pipeline import allowed_memory, check, plan, survey
    from ainerd_hpc.stages.ingest import prices

    config = _config(options)
    found = survey(config)
    plans = plan(config, found=found)
    print_plans(plans, [allowed_memory(config, planned.shape) for planned in plans])
    titles = ("counts", "written about", "once, thread s", "read by a correlation", "thread s")
    rows = [
        (way, size_text(put), f"{once:.2g}", size_text(got), f"{time:.2g}")
        for way, put, once, got, time in prices(found.scans)
    ]
    print_rows("What keeping the counts costs, estimated from the sizes of the files", titles, rows)
    check(plans, config)


def _status(options: argparse.Namespace) -> None:
    from ainerd_hpc.archive.layout import Archive
    from ainerd_hpc.archive.run_record import last_run
    from ainerd_hpc.console import console, print_status
    from ainerd_hpc.pipeline import plan
    from ainerd_hpc.submission.status import stage_statuses

    config = _config(options)
    plans = plan(config)
    rows, notes = stage_statuses(config.archive, plans)
    print_status(plans, last_run(Archive(config.archive)), rows)
    for note in notes:
        console.print(note, markup=False)


def _submit(options: argparse.Namespace) -> None:
    from ainerd_hpc.site.site_file import load_site
    from ainerd_hpc.submission.chain import submit

    part, flags = (options.first, options.until), ("dry_run", "yes", "retry_failed")
    submit(_config(options), load_site(options.site), *part, **{name: getattr(options, name) for name in flags})


def _doctor(options: argparse.Namespace) -> None:
    from ainerd_hpc.config import load
    from ainerd_hpc.doctor.examination import examine
    from ainerd_hpc.doctor.node import answer
    from ainerd_hpc.site.site_file import load_site

    if options.node:
        answer(options.node)
        return
    signal.signal(signal.SIGTERM, _end_in_order)
    config = load(options.config) if options.config else None
    site = options.site or (config.executor.site if config else None)
    archive = options.archive or (config.archive if config else Path())
    wanted = {"wait": options.wait, "two_nodes": options.two_nodes, "as_json": options.json}
    examine(config, load_site(site) if site else None, archive.expanduser(), **wanted)


def _cancel(options: argparse.Namespace) -> None:
    from ainerd_hpc.submission.chain import cancel

    cancel(_archive(options).root)


def _requeue(options: argparse.Namespace) -> None:
    from ainerd_hpc.submission.chain import requeue

    requeue(options.folder, options.job)


def _calibrate(options: argparse.Namespace) -> None:
    from ainerd_hpc.kernels.choice import Costs, even_density
    from ainerd_hpc.site.calibration import calibrate, costs_path

    costs = calibrate()
    for name, measured, stated in zip(Costs._fields, costs, Costs(), strict=True):
        print(f"{name:16} {measured:8.2e} s, {measured / stated:.2f} times the stated constant")
    print(f"events are faster below {even_density(costs):.3f} photons per pixel and frame in 1000 frames")
    print(f"kept in {costs_path()}")


def _qmap(options: argparse.Namespace) -> None:
    from ainerd_hpc.commands.qmap import run

    run(options)


def _export(options: argparse.Namespace) -> None:
    from ainerd_hpc.commands.export import export

    export(_archive(options), options.format, options.output.expanduser(), options.scan, options.overwrite)


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
