"""Results of former layouts: of 8-ID-I before the upgrade of the APS (`/xpcs`, `/exchange`), and of ESRF ID02.

The first were written by xpcs-eigen and boost_corr until 2023. xpcs-eigen numbers the maps `/exchange/C2T_all/g2_00001`
by their q-bins, boost_corr by their place in `/xpcs/qphi_bin_to_process`. Lengths are in mm; dates are in local time,
taken as UTC like every date without a zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import check_period
from ainerd_hpc.formats.description import Metadata
from ainerd_hpc.formats.hdf5.quantities import beam_center, quantity, scale_of
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, get_inner, text
from ainerd_hpc.formats.results.checks import NumberedMaps, check_labels, no_maps, numbers, whole_number
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.formats.units import PER_ANGSTROM
from ainerd_hpc.types import Content

_DETECTOR, _BEAM = "measurement/instrument/detector", "measurement/instrument/source_begin"
_ACQUISITION = "measurement/instrument/acquisition"
_DATE = "%a %b %d %H:%M:%S %Y"
_ESRF = "XPCSResultFile_v2.0"


class LegacyResult(NumberedMaps):
    """Reader of the two-time maps of a result of 8-ID-I."""

    name = "legacy-result"
    group, prefix = "exchange/C2T_all", "g2_"
    g2 = "exchange/norm-0-g2"

    @staticmethod
    def matches(file: SourceFile) -> bool:
        names = ("xpcs/Version", "exchange")
        return file.holds(lambda hdf5: all(get_inner(hdf5, name) is not None for name in names))

    @staticmethod
    def metadata(file: h5py.File) -> Metadata:
        span = whole_number(file, "xpcs/stride_frames") * whole_number(file, "xpcs/avg_frames")
        period = quantity(file, f"{_DETECTOR}/exposure_period", "s")
        if f"{_DETECTOR}/exposure_period" in file:
            check_period(period, f"{file.filename}:/{_DETECTOR}/exposure_period")
        pixel_size = quantity(file, f"{_DETECTOR}/x_pixel_size", "m", otherwise="mm")
        x, y = (beam_center(file, f"{_ACQUISITION}/beam_center_{axis}", pixel_size) for axis in "xy")
        return Metadata(
            frame_time=period * span,
            count_time=quantity(file, f"{_DETECTOR}/exposure_time", "s"),
            start_time=_start_time(text(file, f"{_BEAM}/datetime")),
            energy=quantity(file, f"{_BEAM}/energy", "keV"),
            distance=quantity(file, f"{_DETECTOR}/distance", "m", otherwise="mm"),
            pixel_size=pixel_size,
            beam_center_x=x,
            beam_center_y=y,
            detector=text(file, f"{_DETECTOR}/manufacturer"),
        )

    @staticmethod
    def q_list(file: h5py.File, places: Sequence[int]) -> np.ndarray:
        known, processed = numbers(file, "xpcs/dqlist"), numbers(file, "xpcs/qphi_bin_to_process")
        bins = np.array(places)
        if processed is not None and not np.isin(bins, processed).all():
            where, num = f"{file.filename}:/xpcs/qphi_bin_to_process", len(places)
            if processed.size != num or list(places) != list(range(1, num + 1)):
                problem = f"expected a q-bin for each of {num} maps, found {processed.size} and maps {places[:5]}"
                raise ScanError(where, problem, NEXT_STEP)
            bins = np.sort(processed)
        if known is None:
            return np.full(len(places), np.nan)
        index = check_labels(f"{file.filename}:/{LegacyResult.group}", bins, known.size)
        return np.asarray(known.astype(np.float64)[index] * scale_of(file, "xpcs/dqlist", PER_ANGSTROM))


def _start_time(moment: str) -> float:
    """s, UTC epoch, of `Fri Mar 04 23:31:26 2022`; NaN where it is nothing like it."""
    try:
        return datetime.strptime(moment.strip(), _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")


class EsrfResult:
    """Results of ESRF ID02, known and refused: their maps are of age and lag, averaged in bins of both."""

    name = "esrf-result"
    content = Content.C2
    baseline = None

    @staticmethod
    def matches(file: SourceFile) -> bool:
        return file.holds(lambda hdf5: hdf5.attrs.get("MagicString") in (_ESRF, _ESRF.encode()))

    @staticmethod
    def describe(file: SourceFile) -> NoReturn:
        EsrfResult.read_c2(file.path)

    @staticmethod
    def read_c2(path: Path) -> NoReturn:
        raise no_maps(path, "g2, and correlations in bins of age and lag (ESRF ID02), which cannot be taken apart")

    read_q = read_c2
