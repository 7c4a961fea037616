"""qsub, qrls, qstat and qdel with the manners of OpenPBS, before those of SLURM's look-alike, which run the jobs.

Stricter than the look-alike where OpenPBS is: every option is checked (`pbs_rules`), jobs begin in the home folder,
their ids have the name of a server, arrays are `7[].sandbox`, qstat forgets what has ended and says H of what waits.
As from OpenPBS without a history of jobs: qsub prints an id, with exit code 0, also of a job that is dropped at once,
because the one that it is to begin after has ended; qdel takes arrays after the others, deletes with a job those that
need its success, and exits with the error of any of them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.pbs_rules import check_command, check_script
from tests.support.places import ROOT

SERVER = "sandbox"
_FINISHED, _UNKNOWN, _UNKNOWN_QUEUE = 35, 153, 170
_QUEUES = ("all", "low", "high")
_SSH = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
host=$1
shift
job=${PBS_JOBID%%[!0-9]*}
exec srun --jobid="$job" --overlap --mpi=none --nodes=1 --ntasks=1 --nodelist="$host" bash -c "$*"
"""
"""To another node of the job, by which mpiexec starts what it starts there."""
_PBSDSH = """#!/bin/bash
shift
for host in $(cat "$PBS_NODEFILE"); do
    ssh "$host" "cd; exec env -i HOME=~ PATH=/usr/bin:/bin PYTHONPATH=$PYTHONPATH $(printf '%q ' "$@")" &
done
wait
"""
"""`pbsdsh -- PROGRAM`: one process on each node, in the home folder, without the environment of the job."""


def install(folder: Path, home: Path) -> Path:
    """Put the three programs into a folder, and give a prolog that sets in jobs what OpenPBS sets."""
    folder.mkdir()
    home.mkdir(exist_ok=True)
    for name in ("qsub", "qrls", "qstat", "qdel"):
        head = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        call = f"from tests.support import pbs_front\nsys.exit(pbs_front.{name}(sys.argv[1:], {str(home)!r}))\n"
        (folder / name).write_text(head + call)
        (folder / name).chmod(0o755)
    for name, text in (("ssh", _SSH), ("pbsdsh", _PBSDSH)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    prolog = folder / "prolog.sh"
    kept = {name: value for name, value in os.environ.items() if name.startswith(("OPENBLAS_", "PYTHONPATH"))}
    prolog.write_text(
        "#!/bin/bash\n"
        'if [ -n "$SLURM_ARRAY_TASK_ID" ]; then\n'
        f'  echo "export PBS_JOBID=$SLURM_ARRAY_JOB_ID[$SLURM_ARRAY_TASK_ID].{SERVER}"\n'
        '  echo "export PBS_ARRAY_INDEX=$SLURM_ARRAY_TASK_ID"\n'
        f'else echo "export PBS_JOBID=$SLURM_JOB_ID.{SERVER}"; fi\n'
        f"nodes={folder}/nodes.$SLURM_JOB_ID\n"
        'scontrol show hostnames "$SLURM_JOB_NODELIST" >"$nodes"\n'
        'echo "export PBS_NODEFILE=$nodes"\n'
        'echo "export PBS_O_WORKDIR=$SLURM_SUBMIT_DIR"\n'
        f'echo "export PATH={folder}:$PATH"\n'
        + "".join(f'echo "export {name}={value}"\n' for name, value in kept.items())  # other kernels round otherwise
        + "for name in ${!SLURM_@} ${!SBATCH_@}; do [ $name = SLURM_CONF ] || echo unset $name; done\n"
    )
    prolog.chmod(0o755)
    return prolog


def qsub(words: Sequence[str], home: str) -> int:
    """Submit, after a strict check."""
    text = Path(words[-1]).read_text(encoding="utf-8")
    if len(words) == 1:  # all that it asks for stands in the script
        words = [*directives(text), words[0]]
        problems = check_script(text)
    else:
        problems = check_command(["qsub", *words]) + check_script(text)
    output = Path.cwd() / words[words.index("-o") + 1]
    if not (output if str(words[words.index("-o") + 1]).endswith("/") else output.parent).is_dir():
        problems.append(f"-o {output}: no such folder")
    if problems:
        print(f"qsub: {'; '.join(problems)}", file=sys.stderr)
        return 2
    if "-q" in words and words[words.index("-q") + 1] not in _QUEUES:
        print("qsub: Unknown queue", file=sys.stderr)
        return _UNKNOWN_QUEUE
    plain = [re.sub(rf"(\d+)(\[\])?\.{SERVER}", r"\1", word) for word in words]
    output = output / "%j.OU" if output.is_dir() else output
    plain[plain.index("-o") + 1] = str(output).replace("^array_index^", "%a")
    result = subprocess.run(["/usr/bin/qsub", "-wd", home, *plain], capture_output=True, text=True)
    number = result.stdout.strip()
    if result.returncode or not number.isdigit():
        print(f"qsub: {result.stdout}{result.stderr}", file=sys.stderr)
        return 1
    print(f"{number}[].{SERVER}" if "-J" in words else f"{number}.{SERVER}")
    after = re.findall(rf"(\d+)(?:\[\])?\.{SERVER}", " ".join(words))
    if not all(map(_elements, after)):
        subprocess.run(["scancel", number])
    return 0


def directives(text: str) -> list[str]:
    """The options in the #PBS lines of a script."""
    lines = [line for line in text.splitlines() if line.startswith("#PBS ")]
    return [word for line in lines for word in shlex.split(line.removeprefix("#PBS "))]


def qstat(words: Sequence[str], _home: str) -> int:
    """`qstat -f ID...`: what has not ended."""
    if words[0] != "-f":
        print(f"qstat: {words}", file=sys.stderr)
        return 2
    status = 0
    for job in words[1:]:
        elements = _elements(job)
        if not elements:
            print(f"qstat: {job} Job has finished, use -x or -H to obtain historical job information", file=sys.stderr)
            status = _FINISHED
            continue
        running = Counter("Running" if line[1] in ("R", "CG") else "Queued" for line in elements)
        state = "H" if elements[0][2] in ("Dependency", "JobHeldUser") else "Q"
        if running["Running"]:
            state = "B" if "[]" in job else "R"
        print(f"Job Id: {job}\n    Job_Name = {elements[0][3]}\n    job_state = {state}")
        if "[]" in job:
            counts = f"Queued:{running['Queued']} Running:{running['Running']} Exiting:0 Expired:0 "
            print(f"    array_state_count = {counts}")
        print()
    return status


def _elements(job: str) -> list[list[str]]:
    """Id, state, reason and name of the elements of a job that has not ended."""
    number = re.sub(r"\D.*", "", job)
    listing = subprocess.run(["squeue", "-r", "-h", "-o", "%i %t %r %j"], capture_output=True, text=True).stdout
    lines = [line.split() for line in listing.splitlines()]
    return [line for line in lines if line[0].partition("_")[0] == number]


def qrls(words: Sequence[str], _home: str) -> int:
    """Release jobs that are held."""
    return subprocess.run(["scontrol", "release", *(re.sub(r"\D.*", "", word) for word in words)]).returncode


def qdel(words: Sequence[str], _home: str) -> int:
    """Delete jobs by their whole ids, those of arrays last; with each those that need its success."""
    if wrong := [word for word in words if not word.endswith(f".{SERVER}")]:
        print(f"qdel: illegally formed job identifier: {wrong[0]}", file=sys.stderr)
        return 1
    status = 0
    for job in sorted(words, key=lambda word: "[]" in word):
        if _elements(job):
            _delete(re.sub(r"\D.*", "", job))
        else:
            print(f"qdel: Unknown Job Id {job}", file=sys.stderr)
            status = _UNKNOWN
    return status


def _delete(number: str) -> None:
    listing = subprocess.run(["squeue", "-h", "-t", "PD", "-o", "%A %E"], capture_output=True, text=True).stdout
    subprocess.run(["scancel", number])
    for other, dependency in map(str.split, listing.splitlines()):
        if re.match(rf"afterok:{number}\b", dependency):
            _delete(other)
