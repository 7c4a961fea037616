"""Where things lie: the repository, and the data beside it, without which some tests skip."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
SHARED = ROOT.parent / "shared" / "data"
"""Published and measured data."""
GOLDEN = Path(__file__).parent / "golden"
"""What must not change by itself."""
