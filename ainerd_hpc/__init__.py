"""Reprocess an archive of XPCS scans and give back one map of all its dynamics."""

__version__ = "0.1.0"
