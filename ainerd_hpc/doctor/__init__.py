"""Is this site fit for the work? Checks that take less than a minute, each of which says what to do.

The parts, in the order of their imports:

- `finding`: what a check says, and how many of them are made at a time
- `libraries`, `machine`, `files`: of the machine where they run, which may be a node
- `ranks`: two processes that a job starts on its nodes: do they know of each other, how fast is the network
- `node`: what a job finds on its node
- `batch`: the batch system, asked; `trial`: a job through its queue
- `examination`: all of it

Each check is made on a thread of its own, what may crash (torch, MPI) in a process of its own (`__main__`).
"""
