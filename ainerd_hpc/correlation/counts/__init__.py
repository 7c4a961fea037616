"""The counts of the pixels of a scan, out of frames or events, wherever they are stored."""
