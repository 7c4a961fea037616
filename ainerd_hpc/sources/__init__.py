"""Folders of files -> their scans, with all that is wrong with them, and the catalog."""
