"""Partitions (q maps), geometries and masks of detectors."""
