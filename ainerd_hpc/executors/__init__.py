"""Where tasks run, behind one `map`. Dask is used only here.

- `tasks`: one task as a worker runs it: how it travels, its threads, its errors; `Inline`, one after the other in this
  process
- `through_dask`: tasks on the workers of a Dask client, through a bounded window
- `protection`: TLS: nobody else on a shared node can hand code to our scheduler or our workers
- `local`, `elastic` (with `worker_jobs`), `nodes`, `running`: where the workers come from, one module a kind
- `workers`: the workers of a run, and what becomes of tasks whose workers died

All kinds give a task the same number of threads, so that they give the same bytes.
"""

from ainerd_hpc.executors.tasks import Executor
from ainerd_hpc.executors.workers import Workers, open_executor

__all__ = ["Executor", "Workers", "open_executor"]
