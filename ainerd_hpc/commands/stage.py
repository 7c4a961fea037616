"""The verbs that are one stage: all of its tasks, or a share of them."""

from __future__ import annotations

import argparse

from ainerd_hpc.commands.options import add_config, add_retry, config_of, end_in_order, share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config and the share."""
    add_config(parser)
    add_retry(parser)
    shared = "only the I-th of N shares of its tasks, while other processes do theirs; the verb alone then finishes"
    parser.add_argument("--share", type=share, metavar="I/N", help=shared)


def run(options: argparse.Namespace) -> None:
    """Run the stage that the verb names; `simulate` needs no section of the config."""
    end_in_order()  # before what takes seconds to import
    from ainerd_hpc.config import SimulateConfig
    from ainerd_hpc.pipeline import Run

    config = config_of(options)
    if options.verb == "simulate" and config.simulate is None:
        config = config.model_copy(update={"simulate": SimulateConfig()})
    run = Run(config, options.verb, options.verb, options.retry_failed, options.debug)
    if options.share:
        run.execute_share(*options.share)
    else:
        run.execute()
