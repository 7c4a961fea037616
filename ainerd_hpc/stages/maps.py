"""Maps: windows along the diagonal of C2 -> images for the network, with their physics, one file a scan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from ainerd_hpc.archive.groups import array, columns_of, reading_group, writing_group
from ainerd_hpc.archive.journal import note_published
from ainerd_hpc.archive.layout import recorded_digest
from ainerd_hpc.archive.tables import write_table
from ainerd_hpc.console import tell
from ainerd_hpc.correlation.bad_frames import DAMAGED
from ainerd_hpc.correlation.belief import BEYOND_SPECKLE
from ainerd_hpc.correlation.selection import as_correlated
from ainerd_hpc.correlation.tiles import window_lengths
from ainerd_hpc.correlation.windows import Window, fit_window, map_ids, windows
from ainerd_hpc.digests import digest
from ainerd_hpc.errors import ScanError
from ainerd_hpc.stages.contract import Before, Stage
from ainerd_hpc.types import CELLS, MAP_SIZE, Load, Scan, Task

if TYPE_CHECKING:
    from ainerd_hpc.kernels.maps import Scaling


class Cut(NamedTuple):
    """What is kept of one window."""

    map: np.ndarray
    """(256, 256) float32."""
    cells: np.ndarray
    """(3, 60, 16) float32."""
    row: dict[str, float]
    """What the index of maps says of how it moves."""


class Maps(Stage):
    """Cuts, resamples and scales windows, and fits the g2 of each."""

    name = "maps"
    requires = ("correlate",)
    version = 3  # 2: cells and traits; 3: bursts of faint maps, columns as one array
    memory_knob = "maps.windows"
    quarantines = True
    remarks: ClassVar = {"windows without correlation": "these give no map"}

    def product(self, key: str) -> Path:
        return self.archive.maps_path(key)

    def scan_digest(self, scan: Scan, before: Before) -> str:
        return digest(self.name, self.version, self.config.maps, before.of_scan("correlate", scan))

    def tasks(self, scans: Sequence[Scan], before: Before) -> Iterable[Task]:
        for scan in scans:
            num_frames = as_correlated(self.config.correlate, scan).num_frames
            one_c2 = max(window_lengths(self.config.maps, num_frames), default=0) ** 2
            lengths = [window.length for window in windows(self.config, scan)]
            size = len(lengths) * (MAP_SIZE**2 * 4 + math.prod(CELLS) * 2)
            # C2 in float32, its diagonal filled, in float64 for the resampling, with the weights of valid entries.
            peak = (4 + 4 + 5 * 8) * one_c2 + size + 2**26
            read = scan.num_q_bins * one_c2 * 4
            load = Load(num_maps=len(lengths), num_entries=sum(length**2 for length in lengths))
            yield Task(scan.scan_id, before.of_scan(self.name, scan), peak, read, size, {"scan": scan}, load)

    def work(self, task: Task) -> Mapping[str, float]:
        from ainerd_hpc.correlation.product import StoredC2

        source_scan: Scan = task.args["scan"]
        cut, scan = list(windows(self.config, source_scan)), as_correlated(self.config.correlate, source_scan)
        if not cut:
            problem = f"expected at least one window within {scan.num_frames} frames, found {self.config.maps.windows}"
            raise ScanError(f"scan {scan.scan_id}", problem, "add a shorter length, or `full`, to maps.windows")
        with reading_group(self.archive.correlation_path(scan.scan_id)) as source:
            c2, q, lost = StoredC2(source), array(source, "dynamic_q_list")[...], _damaged(source)
            beyond = array(source, BEYOND_SPECKLE)[...] if BEYOND_SPECKLE in source else None
            with writing_group(self.product(task.key), self._attributes(task, scan)) as group:
                maps = group.create(
                    "maps", (len(cut), MAP_SIZE, MAP_SIZE), np.float32, ("map", "y", "x"), (1, MAP_SIZE, MAP_SIZE)
                )
                rows: list[dict[str, float]] = []
                cells: list[np.ndarray] = []
                for window in cut:
                    inside = slice(window.age_start, window.age_stop)
                    if one := cut_map(c2[window.q_bin, inside, inside], self.config.maps.scaling, scan.frame_time):
                        maps[len(rows)] = one.map
                        cells.append(one.cells.astype(np.float16))
                        doubt = {} if beyond is None else {BEYOND_SPECKLE: float(beyond[window.q_bin])}
                        placed = {**_placed(window, scan), **one.row, "row": len(rows)}
                        rows.append({**placed, "q": float(q[window.q_bin]), **doubt, **lost})
                        group.flush()
                self._check(scan, cut, rows)
                maps.resize((len(rows), *maps.shape[1:]))
                group.add("cells", np.stack(cells), ("map", "channel", "lag", "age"))
                group.add_columns(pd.DataFrame(rows), "map")
        left_out = {"windows without correlation": float(len(cut) - len(rows))} if len(rows) < len(cut) else {}
        return {"maps": float(len(rows))} | left_out

    def _check(self, scan: Scan, cut: Sequence[Window], rows: Sequence[Mapping[str, float]]) -> None:
        """Tell which q-bins give fewer maps than windows.

        Raises
        ------
        ScanError
            There is no map at all.
        """
        if not rows:
            problem = f"expected counts in neighbouring frames, found no correlation in any of {len(cut)} windows"
            raise ScanError(f"scan {scan.scan_id}", problem, "correct the partition, or take longer windows")
        lost = Counter(window.q_bin for window in cut) - Counter(int(row["q_bin"]) for row in rows)
        if lost:
            bins = ", ".join(f"q-bin {q_bin} ({num})" for q_bin, num in sorted(lost.items()))
            tell(f"{scan.scan_id}: no correlation in windows of {bins}: these give no map")

    def _attributes(self, task: Task, scan: Scan) -> dict[str, Any]:
        return {
            "digest": task.digest,
            "scan_id": scan.scan_id,
            "simulated": scan.simulated,
            "scaling": self.config.maps.scaling,
            "time_units": "s",
        }

    def finish(self, scans: Sequence[Scan], before: Before) -> None:
        """Publish the index of all maps."""
        from ainerd_hpc.archive import map_index
        from ainerd_hpc.archive.scans import Scans

        index_digest = before.of_all(self.name, scans)
        if recorded_digest(self.archive.map_index_path) == index_digest:
            return
        scan_ids = Scans.of(scans).column("scan_id")
        index, sources = map_index.gather(self.archive, scan_ids, before.of_each(self.name, scans), self._rows)
        index.insert(0, "map_id", map_ids(index))
        write_table(self.archive.map_index_path, index, index_digest)
        map_index.note(self.archive, sources)
        note_published(self.archive.root, self.archive.map_index_path)

    def _rows(self, scan_id: str) -> pd.DataFrame:
        """The rows of a scan in the index."""
        with reading_group(self.product(scan_id)) as group:
            return columns_of(group).assign(scan_id=scan_id)


def cut_map(c2: np.ndarray, scaling: Scaling, frame_time: float) -> Cut | None:
    """What is kept of one window of C2, (t, t); None where no two of its frames have counts.

    Parameters
    ----------
    scaling : {"robust", "minmax", "none"}
        As `maps.scaling` of the config.
    frame_time : float
        s.
    """
    from ainerd_hpc.kernels.cells import cells
    from ainerd_hpc.kernels.maps import make_map
    from ainerd_hpc.kernels.traits import TIMES, traits

    scaled = make_map(c2, scaling, MAP_SIZE)
    if not np.isfinite(scaled.map).all():
        return None
    fit, found = fit_window(c2, frame_time), cells(c2)
    moves = traits(c2, found)._asdict()
    row = {
        "seconds_per_pixel": len(c2) * frame_time / MAP_SIZE,
        "scale_low": scaled.low,
        "scale_high": scaled.high,
        "half_decay": found.half_decay * frame_time,
        "half_decay_err": found.half_decay_err * frame_time,
        "signal_to_noise": found.signal_to_noise,
        "tau": fit.tau,
        "tau_err": fit.tau_err,
        "contrast": fit.contrast,
        "contrast_err": fit.contrast_err,
        "kww_exponent": fit.kww_exponent,
        "kww_exponent_err": fit.kww_exponent_err,
        "baseline": fit.baseline,
        "reduced_chi2": fit.reduced_chi2,
        **{name: value * frame_time if name in TIMES else value for name, value in moves.items()},
    }
    return Cut(scaled.map, found.values, row)


def _placed(window: Window, scan: Scan) -> dict[str, float]:
    """Where a window was cut; the time is that of its middle."""
    middle = (window.age_start + window.age_stop) / 2
    return {
        "q_bin": window.q_bin,
        "age_start": window.age_start,
        "age_stop": window.age_stop,
        "time": scan.start_time + middle * scan.frame_time,
        "frame_time": scan.frame_time,
    }


def _damaged(correlation: Any) -> dict[str, int]:
    """How many frames of a scan could not be read, where there are any."""

    known = "bad_frame_reason" in correlation
    num = int((array(correlation, "bad_frame_reason")[...] == DAMAGED).sum()) if known else 0
    return {"damaged_frames": num} if num else {}
