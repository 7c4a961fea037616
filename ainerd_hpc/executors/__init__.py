"""Where tasks run, behind one `map`. Dask is used only here.

- `tasks`: one task as a worker runs it: its threads, its errors; `Inline`, one after the other in this process
- `crew`: how many worker processes a place has, and how much memory each; larger ones for a task that needs more
- `through_dask`: tasks on the workers of a Dask client, through a bounded window
- `protection`: TLS: nobody else on a shared node can hand code to our scheduler or our workers
- `local`, `elastic` (with `worker_jobs`), `nodes`, `running`: where the workers come from, one module a kind
- `workers`: the workers of a run, and what becomes of tasks whose workers died

All kinds give a task the same number of threads, so that they give the same bytes.
"""

from ainerd_hpc.executors.tasks import Executor
from ainerd_hpc.executors.workers import Workers, open_executor
from ainerd_hpc.site.workers import worker_memory

__all__ = ["Executor", "Workers", "open_executor", "worker_memory"]
