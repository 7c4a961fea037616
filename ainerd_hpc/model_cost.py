"""What the networks cost in memory, without importing torch: plans are made from it."""

from __future__ import annotations

MAPS_PER_PASS = 4
"""Maps that go through the network at a time in training on a CPU: so few stay in the cache, which is faster."""
