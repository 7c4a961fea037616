"""Results of former layouts: of 8-ID-I before the upgrade of the APS (`/xpcs`, `/exchange`), and of ESRF ID02.

The first were written by xpcs-eigen and boost_corr until 2023. xpcs-eigen numbers the maps `/exchange/C2T_all/g2_00001`
by their q-bins, boost_corr by their place in `/xpcs/qphi_bin_to_process`. Lengths are in mm; dates are in local time,
taken as UTC like every date without a zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.beside.metadata import check_period
from ainerd_hpc.formats.description import Description, Metadata
from ainerd_hpc.formats.hdf5.reading import NEXT_STEP, get_inner, number, open_hdf5, reading, text
from ainerd_hpc.formats.opening import READ_ERRORS
from ainerd_hpc.formats.results.checks import (
    check_labels,
    need_maps,
    no_maps,
    numbered,
    numbers,
    read_numbered,
    whole_number,
)
from ainerd_hpc.formats.source_file import SourceFile
from ainerd_hpc.types import Content

_MAPS, _PREFIX = "exchange/C2T_all", "g2_"
_DETECTOR, _BEAM = "measurement/instrument/detector", "measurement/instrument/source_begin"
_ACQUISITION = "measurement/instrument/acquisition"
_DATE = "%a %b %d %H:%M:%S %Y"
_ESRF = "XPCSResultFile_v2.0"


class LegacyResult:
    """Reader of the two-time maps of a result of 8-ID-I."""

    name = "legacy-result"
    content = Content.C2

    @staticmethod
    def matches(file: SourceFile) -> bool:
        """Whether the file is HDF5 with `/xpcs/Version` and `/exchange`."""
        try:
            return file.hdf5 is not None and all(
                get_inner(file.hdf5, name) is not None for name in ("xpcs/Version", "exchange")
            )
        except READ_ERRORS:
            return False

    @staticmethod
    def describe(file: SourceFile) -> Description:
        """Shape and metadata; no map is read.

        Raises
        ------
        ScanError
            There are no two-time maps, or their shapes, q-bins or frame numbers do not fit together.
        """
        hdf5 = file.hdf5
        assert hdf5 is not None
        with reading(str(file.path)):
            names = numbered(hdf5, _MAPS, _PREFIX)
            if not names:
                raise no_maps(file.path, "g2 only" if "exchange/norm-0-g2" in hdf5 else "none")
            maps = need_maps(hdf5, list(names.values()))
            _q_list(hdf5, list(names))
            span = whole_number(hdf5, "xpcs/stride_frames") * whole_number(hdf5, "xpcs/avg_frames")
            metadata = _metadata(hdf5, span)
        return Description(maps[0].shape[0], 4, num_q_bins=len(maps), metadata=metadata)

    @staticmethod
    def read_c2(path: Path) -> np.ndarray:
        """The maps, (q_bin, t1, t2) float32, complete and symmetric.

        Raises
        ------
        ScanError
            The file is damaged, or a map holds no finite number or is neither symmetric nor one triangle.
        """
        return read_numbered(path, _MAPS, _PREFIX)

    @staticmethod
    def read_q(path: Path) -> np.ndarray:
        """q of each of these maps, (q_bin,) float64, 1/angstrom; NaN where the file does not say.

        Raises
        ------
        ScanError
            The file is damaged, or the lists of its bins do not fit the maps.
        """
        with open_hdf5(path) as file, reading(str(path)):
            return _q_list(file, list(numbered(file, _MAPS, _PREFIX)))


def _q_list(file: h5py.File, places: Sequence[int]) -> np.ndarray:
    """q of the maps with these numbers."""
    known, processed = numbers(file, "xpcs/dqlist"), numbers(file, "xpcs/qphi_bin_to_process")
    bins = np.array(places)
    if processed is not None and not np.isin(bins, processed).all():
        where = f"{file.filename}:/xpcs/qphi_bin_to_process"
        if processed.size != len(places) or list(places) != list(range(1, len(places) + 1)):
            problem = f"expected a q-bin for each of {len(places)} maps, found {processed.size} and maps {places[:5]}"
            raise ScanError(where, problem, NEXT_STEP)
        bins = np.sort(processed)
    if known is None:
        return np.full(len(places), np.nan)
    index = check_labels(f"{file.filename}:/{_MAPS}", bins, known.size)
    return np.asarray(known.astype(np.float64)[index])


def _metadata(file: h5py.File, span: int) -> Metadata:
    period = number(file, f"{_DETECTOR}/exposure_period")
    if f"{_DETECTOR}/exposure_period" in file:
        check_period(period, f"{file.filename}:/{_DETECTOR}/exposure_period")
    return Metadata(
        frame_time=period * span,
        count_time=number(file, f"{_DETECTOR}/exposure_time"),
        start_time=_start_time(text(file, f"{_BEAM}/datetime")),
        energy=number(file, f"{_BEAM}/energy"),
        distance=number(file, f"{_DETECTOR}/distance") * 1e-3,
        pixel_size=number(file, f"{_DETECTOR}/x_pixel_size") * 1e-3,
        beam_center_x=number(file, f"{_ACQUISITION}/beam_center_x"),
        beam_center_y=number(file, f"{_ACQUISITION}/beam_center_y"),
        detector=text(file, f"{_DETECTOR}/manufacturer"),
    )


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

    @staticmethod
    def matches(file: SourceFile) -> bool:
        """Whether the file is HDF5 whose attribute MagicString says so."""
        try:
            return file.hdf5 is not None and file.hdf5.attrs.get("MagicString") in (_ESRF, _ESRF.encode())
        except READ_ERRORS:
            return False

    @staticmethod
    def describe(file: SourceFile) -> Description:
        """Refused.

        Raises
        ------
        ScanError
            Always.
        """
        raise no_maps(file.path, "g2, and correlations in bins of age and lag (ESRF ID02), which cannot be taken apart")
