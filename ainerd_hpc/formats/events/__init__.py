"""Readers of scans that are stored as photon events."""
