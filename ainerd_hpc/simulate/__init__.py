"""Simulated XPCS scans with known truth, written as real detector files.

A pixel's field is a complex Gaussian process with the stated correlation g1(t1, t2), uniform in a q-ring; intensities
of `coherent_modes` independent patterns add up, so that c2 = 1 + |g1|^2 / coherent_modes (Siegert relation); photons
are Poisson. Left out on purpose: speckles larger than a pixel, decay within an exposure, and an intensity gradient
inside a ring (it falls from ring to ring), which would lift the baseline of an unsmoothed c2 above 1.

A scan depends on config and index only: any order, process or number of threads gives the same bytes (on one kind of
processor: BLAS rounds differently on another).

In the order of the work: `chance` gives the random numbers, `detector` pixels and q-rings, `dynamics` g1, `speckle` the
frames of that g1, `files` what is written.
"""

from ainerd_hpc.simulate.detector import Instrument, instrument
from ainerd_hpc.simulate.dynamics import KINDS, Dynamics, draw_dynamics, field_correlation
from ainerd_hpc.simulate.files import LAST_FILE, PREFIX, scan_ids, start_time, write_scan, write_shared_files
from ainerd_hpc.simulate.speckle import scan_bytes, simulate_counts

__all__ = [
    "KINDS",
    "LAST_FILE",
    "PREFIX",
    "Dynamics",
    "Instrument",
    "draw_dynamics",
    "field_correlation",
    "instrument",
    "scan_bytes",
    "scan_ids",
    "simulate_counts",
    "start_time",
    "write_scan",
    "write_shared_files",
]
