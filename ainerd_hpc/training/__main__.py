"""Entry point of the processes that `ranks` starts: agent|rank JOB_JSON HOST:PORT."""

import sys
from pathlib import Path

from ainerd_hpc.training.rank import agent, rank, run

if __name__ == "__main__":
    run({"agent": agent, "rank": rank}[sys.argv[1]], Path(sys.argv[2]), sys.argv[3])
