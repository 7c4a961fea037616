"""The Python API: an archive as tables and arrays with units, and the kernels on arrays in memory."""

from ainerd_hpc.api.archive import Archive, open
from ainerd_hpc.api.clusters import Cluster
from ainerd_hpc.api.in_memory import correlate
from ainerd_hpc.api.scans import ScanResult

__all__ = ["Archive", "Cluster", "ScanResult", "correlate", "open"]
