"""One scan of an archive: its correlation as labelled arrays, its maps, and how it shows itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ainerd_hpc.api.labelled import as_dataset
from ainerd_hpc.api.pages import scan_page
from ainerd_hpc.api.tables import Tables
from ainerd_hpc.archive.groups import reading_group
from ainerd_hpc.correlation.product import C2_SUMS, PARAMETERS, StoredC2, described
from ainerd_hpc.errors import ConfigError

_CURVES = ("g2", "g2_c2", "g2_window")
_DELAYS = ("lag", "delay", "delay_c2", "delay_window", "dynamic_q_list")
_QUALITY = ("reduced_chi2", "chi2_probability")
_FITS = (*PARAMETERS, *(f"{name}_err" for name in PARAMETERS), *_QUALITY)


class ScanResult:
    """What an archive holds of one scan.

    Parameters
    ----------
    archive : Tables
    scan_id : str
    """

    def __init__(self, archive: Tables, scan_id: str) -> None:
        self.archive = archive
        self.scan_id = scan_id

    def c2(self, q_bin: int, frames: slice = slice(None)) -> xr.DataArray:
        """Two-time correlation of one q-bin, baseline 1.

        Parameters
        ----------
        q_bin : int
            From 0.
        frames : slice
            Of which frames, as correlated; default: all. Only the tiles that these lie in are read.

        Returns
        -------
        DataArray, (t1, t2) float32
            t1 and t2 in s from the first frame; q (1/angstrom) beside them. The diagonal is raw, with shot noise; bad
            frames, and what no window reaches, are NaN.
        """
        with self._product() as group:
            stored, frame_time = StoredC2(group), float(group.attrs["frame_time"])
            num_q_bins, num_frames, _ = stored.shape
            if not 0 <= q_bin < num_q_bins:
                raise ConfigError(f"scan {self.scan_id}: expected a q_bin below {num_q_bins}, found {q_bin}")
            inside = slice(*frames.indices(num_frames)[:2])
            values, q = stored[q_bin, inside, inside], described(group, "dynamic_q_list")
        time = np.arange(num_frames)[inside] * frame_time
        coordinates: dict[str, Any] = {name: (name, time, {"units": "s"}) for name in ("t1", "t2")}
        coordinates |= {"q": ((), q[0][q_bin], q[2]), "q_bin": q_bin}
        attributes = {"units": "1", "long_name": "C2", "baseline": 1, "scan_id": self.scan_id}
        return xr.DataArray(values, coordinates, ("t1", "t2"), "c2", attributes)

    @property
    def g2(self) -> xr.Dataset:
        """g2 of every q-bin with its standard error, against delay in s.

        `g2` is that of the multi-tau scheme, `g2_c2` the mean along the diagonals of C2, `g2_window` the same in
        windows of age. A scan that was read from two-time maps has `g2` alone: the mean along their diagonals.
        """
        return self._read([*_CURVES, *(f"{name}_err" for name in _CURVES), *_DELAYS])

    @property
    def fits(self) -> xr.Dataset:
        """KWW fits g2 = baseline + contrast exp(-2 (delay / tau)^kww_exponent) of every q-bin, with standard errors.

        tau in s. With `_window` in the name they are those of windows of age; `power_law` is that of tau(q). Of a scan
        that was read from two-time maps there are none; its windows are fitted for `Archive.maps`.
        """
        return self._read([*_FITS, *(f"{name}_window" for name in _FITS), "power_law", "dynamic_q_list"])

    @property
    def maps(self) -> pd.DataFrame:
        """The rows of `Archive.maps` that are cut from this scan."""
        maps = self.archive.maps
        return maps[maps["scan_id"] == self.scan_id]

    def _read(self, names: Iterable[str]) -> xr.Dataset:
        """Those of these arrays that the product has."""
        with self._product() as group:
            arrays = {name: described(group, name) for name in names if name in group}
            found = as_dataset(arrays, float(group.attrs["frame_time"]), int(group[C2_SUMS].shape[1]))
        return found.assign_attrs(scan_id=self.scan_id)

    @contextmanager
    def _product(self) -> Iterator[Any]:
        path = self.archive.layout.correlation_path(self.scan_id)
        if not path.exists():
            raise ConfigError(f"scan {self.scan_id}: expected its correlation in {self.archive.path}; {self._hint()}")
        with reading_group(path) as group:
            yield group

    def _hint(self) -> str:
        scans = self.archive.scans
        if self.scan_id in scans.index:
            state = str(scans.loc[self.scan_id, "state"])
            return f"the scan is {state}, look into quarantine.jsonl or run `ainerd-hpc run --until correlate`"
        near = difflib.get_close_matches(self.scan_id, scans.index, n=1)
        return f"did you mean {near[0]}?" if near else f"it has {len(scans)} scans"

    def __repr__(self) -> str:
        return f"<scan {self.scan_id} of {self.archive.path}>"

    def _repr_html_(self) -> str:
        return scan_page(self.archive, self.scan_id, self.maps)
