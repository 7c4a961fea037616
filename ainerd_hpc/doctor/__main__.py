"""Parts of checks in processes of their own: `python -m ainerd_hpc.doctor ROLE ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(what: str, *words: str) -> None:
    """Do one part, and print what it gives; each loads no more than it needs."""
    if what == "torch":
        from ainerd_hpc.doctor.libraries import torch_facts

        print(json.dumps(torch_facts()))
    elif what == "mpi":
        from ainerd_hpc.doctor.libraries import mpi_facts

        print(json.dumps(mpi_facts()))
    elif what == "lock":
        from ainerd_hpc.doctor.files import look_at_lock

        print(look_at_lock(Path(words[0])))
    elif what == "replace":
        from ainerd_hpc.doctor.files import replace

        replace(Path(words[0]))
    elif what == "hdf5":
        from ainerd_hpc.formats.hdf5.trial import try_hdf5

        try_hdf5(Path(words[0]))
    elif what == "rank":
        from ainerd_hpc.doctor.ranks import rank

        rank(Path(words[0]), words[1], int(words[2]))
    else:
        raise SystemExit(f"{what}: no such part")


if __name__ == "__main__":
    main(*sys.argv[1:])
