"""The verb `schema`: write the JSON schema of the config, for editors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where it goes."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")


def run(options: argparse.Namespace) -> None:
    """Write it to a file, or print it."""
    from ainerd_hpc.config import RunConfig
    from ainerd_hpc.publishing import write_text

    text = json.dumps(RunConfig.model_json_schema(), indent=2) + "\n"
    if options.output:
        write_text(options.output, text)
    else:
        print(text, end="")
