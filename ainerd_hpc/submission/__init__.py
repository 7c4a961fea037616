"""The line of stages as jobs of a batch system, chained by dependencies.

The parts, in the order of their imports:

- `steps`: stages -> steps, each one job or one job array
- `batch`: what is asked of a batch system; `slurm`, `pbs`: its two answers
- `record`: one submission, kept with the archive: its jobs, their scripts and logs
- `chain`: submit, cancel, go on
- `status`: how each stage stands, from the batch system and the products

Nothing here stays at work after a verb has ended: what was submitted is a file of JSON lines, how it stands is asked.
"""
