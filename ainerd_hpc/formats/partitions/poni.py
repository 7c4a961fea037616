"""The geometry of a detector as pyFAI has calibrated it, in a .poni file: tilted detectors, and all that it knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ainerd_hpc.errors import ScanError
from ainerd_hpc.formats.partitions.partition import Geometry
from ainerd_hpc.kernels.partitioning import HC

_NEXT_STEP = "calibrate again and save the .poni file, or give the geometry itself"


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What a .poni file says of every pixel."""

    q: np.ndarray
    """(y, x), 1/angstrom."""
    phi: np.ndarray
    """(y, x), degrees: 0 to the right, 90 upwards."""
    mask: np.ndarray
    """(y, x) bool, True = use; False in the gaps of a detector that pyFAI knows by name."""
    geometry: Geometry
    """Where the direct beam meets the detector, and how far from the sample; says nothing of the tilt."""


def read_poni(path: Path, shape: tuple[int, int] | None = None, energy: float = float("nan")) -> Calibration:
    """The calibration of a detector.

    Parameters
    ----------
    shape : (y, x), optional
        Of the frames; not needed where the file names a detector.
    energy : float
        keV; not needed where the file has the wavelength.

    Raises
    ------
    ScanError
        pyFAI is not installed or cannot read the file; it is of a detector of another shape; no wavelength.
    """
    with _reading(path):
        import pyFAI

        integrator = pyFAI.load(str(path))
        known = integrator.detector.shape
        shape = shape or (tuple(known) if known else None)
        if shape is None or (known and tuple(known) != tuple(shape)):
            raise ValueError(f"expected a detector of {shape or 'known shape'}, found {integrator.detector}")
        if np.isfinite(energy):
            integrator.wavelength = HC / energy * 1e-10
        if not integrator.wavelength:
            raise ValueError("it has no wavelength, so give the energy")
        q = np.asarray(integrator.center_array(shape, unit="q_A^-1"), dtype=np.float64)
        phi = -np.degrees(integrator.center_array(shape, unit="chi_rad", scale=False))
        gaps = integrator.detector.mask
        mask = np.ones(shape, dtype=bool) if gaps is None else np.asarray(gaps) == 0
        if not q.shape == phi.shape == mask.shape == tuple(shape):
            raise ValueError(f"expected arrays of {shape}, found {q.shape} and a mask of {mask.shape}")
        return Calibration(q, np.asarray(phi), mask, _geometry(integrator))


def _geometry(integrator: Any) -> Geometry:
    """pyFAI counts pixels from the corner of the first one, we from its middle."""
    beam = integrator.getFit2D()
    center = float(beam["centerX"]) - 0.5, float(beam["centerY"]) - 0.5
    pixel_size, energy = float(integrator.detector.pixel2), HC / (integrator.wavelength * 1e10)
    return Geometry(*center, pixel_size, float(beam["directDist"]) * 1e-3, energy)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """pyFAI raises errors of any kind, and logs them as well."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    except ImportError:
        raise ScanError(str(path), "expected pyFAI to read it, found none", "pip install pyFAI") from None
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ScanError(str(path), f"cannot read it as a .poni file: {text[:300]}", _NEXT_STEP) from None
    finally:
        logging.disable(before)
