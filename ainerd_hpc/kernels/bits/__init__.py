"""Frames as detectors pack them: bitshuffle and LZ4, to frames or straight to events."""
