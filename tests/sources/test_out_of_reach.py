"""What cannot be opened is told, and is taken up again as soon as it can be, though no date has changed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ainerd_hpc.cli import main
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.sources.discovery import Discovery, discover
from ainerd_hpc.sources.walk import FileRecord, from_row, to_row
from tests.sources.test_catalog_tree import WITHOUT_CAPABILITIES, small
from tests.support.archive_tree import KINDS, frames_of

LOOK_AT_EACH = """
import base64, json, os, sys
from pathlib import Path
from ainerd_hpc.config import SourceConfig
from ainerd_hpc.sources.walk import looking, to_row, walk
source = SourceConfig(**json.loads(sys.argv[1]))
with looking():
    for path in json.loads(sys.argv[2]):
        mode = os.stat(path).st_mode
        os.chmod(path, 0)
        rows = [to_row(record) for record in walk(source.roots, {}, source.dataset)]
        os.chmod(path, mode)
        print(json.dumps([[base64.b64encode(row["path"]).decode(), row["record"]] for row in rows]))
"""
"""Walks over a tree, in each of which one path is out of reach."""
