"""The published data of AI-NERD (Horwath et al., Nat. Commun. 15, 5945, 2024): latents of 900 measured two-time maps.

A folder with latents.npy (900, 64), sector.npy (900,) and scan_start_s.npy (900,), as in the authors' repository:
one q ring in 18 azimuthal sectors, 50 scans. A scan here is one start time; its q-bins are the sectors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.opening import opened
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import MAP_SIZE, Content

_PREFIX = "rheo_"


class Ainerd2024:
    """latents.npy beside sector.npy and scan_start_s.npy."""

    name = "ainerd2024"
    content = Content.LATENTS

    @staticmethod
    def matches(file: SourceFile) -> bool:
        return file.path.name == "latents.npy" and all(companion.exists() for companion in _companions(file.path))

    @staticmethod
    def describe_all(path: Path) -> dict[str, Description]:
        """The scans are `rheo_00`, ... in the order of their start times."""
        sector, start = _load(path, "sector.npy"), _load(path, "scan_start_s.npy")
        latents = _load(path, "latents.npy")
        if not len(latents) == len(sector) == len(start):
            problem = (
                f"expected as many latents as sectors and starts, found {len(latents)}, {len(sector)}, {len(start)}"
            )
            raise ScanError(str(path), problem, "take the three files from one release")
        return {
            f"{_PREFIX}{number:02d}": Description(
                num_frames=MAP_SIZE,
                itemsize=4,
                num_q_bins=int(np.sum(start == seconds)),
                metadata=Metadata(start_time=float(seconds)),
                companions=_companions(path),
            )
            for number, seconds in enumerate(np.unique(start))
        }

    @staticmethod
    def read_latents(path: Path, scan_id: str) -> np.ndarray:
        """The latents in the order of the sectors."""
        sector, start = _load(path, "sector.npy"), _load(path, "scan_start_s.npy")
        number = int(scan_id.partition("~")[0].removeprefix(_PREFIX))
        rows = np.flatnonzero(start == np.unique(start)[number])
        in_order = rows[np.argsort(sector[rows], kind="stable")]
        return np.asarray(_load(path, "latents.npy")[in_order], dtype=np.float32)


def _companions(path: Path) -> tuple[Path, ...]:
    return path.with_name("sector.npy"), path.with_name("scan_start_s.npy")


def _load(path: Path, name: str) -> np.ndarray:
    try:
        with opened(path.with_name(name)) as file:
            return np.asarray(np.load(file.buffered(), allow_pickle=False))
    except (OSError, ValueError) as error:
        where = str(path.with_name(name))
        raise ScanError(where, f"cannot be read ({error})", "copy it again from its origin") from None
