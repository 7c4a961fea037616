"""Entry point of the launcher and, with "rank", of one rank: JOB_JSON PARENT_PID [rank]."""

import sys
from pathlib import Path

from ainerd_hpc.training.ranks import launch, rank

if __name__ == "__main__":
    (rank if sys.argv[3:] == ["rank"] else launch)(Path(sys.argv[1]), int(sys.argv[2]))
