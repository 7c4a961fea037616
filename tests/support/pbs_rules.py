"""What OpenPBS accepts on the command line of qsub and in #PBS lines, checked more strictly than its look-alikes do.

After the OpenPBS guides (`qsub`, "Requesting resources", "Job arrays", "Job dependencies"). Only what a job of this
project may use is allowed: anything else is a problem, told in words.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

ID = r"\d+(\[\])?\.[\w.-]+"
_SIZE = r"\d+(b|kb|mb|gb|tb)"
_CLOCK = r"\d{2,}:[0-5]\d:[0-5]\d"
_CHUNK = {"ncpus": r"[1-9]\d*", "mem": _SIZE, "ngpus": r"[1-9]\d*", "mpiprocs": r"[1-9]\d*", "ompthreads": r"[1-9]\d*"}
_PLACE = r"(free|pack|scatter|vscatter)(:(excl|exclhost|shared))?"
_DEPENDENCIES = ("after", "afterok", "afternotok", "afterany")
FLAGS = ("-h",)
"""Options without a value."""
LONGEST_NAME = 15
"""Of a job, in PBS before 13; OpenPBS takes 230."""


def _pattern(pattern: str) -> Callable[[str], list[str]]:
    return lambda value: [] if re.fullmatch(pattern, value) else [f"{value!r} is not {pattern}"]


def _resources(value: str) -> list[str]:
    problems = []
    for resource in value.split(","):
        name, equals, amount = resource.partition("=")
        if not equals:
            problems.append(f"-l {resource}: no value")
        elif name == "select":
            problems += _select(amount)
        elif name in ("nodes", "ncpus", "mem", "ngpus"):
            problems.append(f"-l {name}= beside select=")
        elif name == "walltime":
            problems += _pattern(_CLOCK)(amount)
        elif name == "place":
            problems += _pattern(_PLACE)(amount)
    return problems


def _select(value: str) -> list[str]:
    problems = []
    for chunk in value.split("+"):
        words = chunk.split(":")
        if not re.fullmatch(r"[1-9]\d*", words[0]):
            problems.append(f"select: chunk {chunk} does not begin with a number")
        facts = dict(word.partition("=")[::2] for word in words[1:])
        problems += [f"select: {word} has no value" for word in words[1:] if "=" not in word]
        known = {key: facts[key] for key in _CHUNK if key in facts}
        problems += [f"select: {key}={value}" for key, value in known.items() if _pattern(_CHUNK[key])(value)]
        num_cores, num_ranks, num_threads = (known.get(key, "1") for key in ("ncpus", "mpiprocs", "ompthreads"))
        if not problems and int(num_ranks) * int(num_threads) > int(num_cores):
            problems.append(f"select: mpiprocs x ompthreads above ncpus in {chunk}")
    return problems


def _variables(value: str) -> list[str]:
    return [f"-v {one}" for one in value.split(",") if not re.fullmatch(r"[A-Za-z_]\w*=[\w./:+-]*", one)]


def _attributes(value: str) -> list[str]:
    name, _, text = value.partition("=")
    if name != "depend":
        return [f"-W {name}"]
    problems = []
    for dependency in text.split(","):
        kind, *jobs = dependency.split(":")
        if kind not in _DEPENDENCIES or not jobs:
            problems.append(f"-W depend={dependency}")
        problems += [f"-W depend: {job} is no id of a job" for job in jobs if not re.fullmatch(ID, job)]
        if kind == "afterok" and any("[]" in job for job in jobs):
            problems.append("afterok on an array holds whatever its subjobs give")
    return problems


def _range(value: str) -> list[str]:
    match = re.fullmatch(r"(\d+)-(\d+)(:[1-9]\d*)?", value)
    return [] if match and int(match[1]) < int(match[2]) else [f"-J {value}"]


OPTIONS: dict[str, Callable[[str], list[str]]] = {
    "-N": _pattern(rf"[A-Za-z0-9][\w.+-]{{0,{LONGEST_NAME - 1}}}"),
    "-q": _pattern(r"[\w.-]+(@[\w.-]+)?"),
    "-A": _pattern(r"[\w.-]+"),
    "-l": _resources,
    "-J": _range,
    "-j": _pattern("oe|eo|n"),
    "-o": _pattern(r"[\w./^-]+"),
    "-r": _pattern("y|n"),
    "-S": _pattern(r"/[\w./-]+"),
    "-v": _variables,
    "-W": _attributes,
}


def check_options(words: Sequence[str], script: str | None = None) -> list[str]:
    """Problems of options; `script` is what has to stand after them, None for a #PBS line."""
    problems, rest, given = [], list(words), list[str]()
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in FLAGS:
            continue
        if option not in OPTIONS or not rest:
            problems.append(f"{option}: unknown, or without a value")
            continue
        if option in given and option != "-l":
            problems.append(f"{option} given twice")
        given.append(option)
        problems += OPTIONS[option](rest.pop(0))
    if rest != ([script] if script else []):
        problems.append(f"expected {script or 'nothing'} after the options, found {rest}")
    return problems


def check_command(command: Sequence[str]) -> list[str]:
    """Problems of a whole command line, from `qsub` to the script, which takes no arguments; or of one of qrls."""
    if command[0] == "qrls":
        return [] if len(command) == 2 and re.fullmatch(ID, command[1]) else [f"qrls: {shlex.join(command[1:])}"]
    if command[0] != "qsub" or not command[-1].endswith(".pbs"):
        return [f"expected qsub ... SCRIPT.pbs, found {shlex.join(command)}"]
    problems = check_options(command[1:], command[-1])
    selected = sum("select=" in word for word in command)
    return problems + ([] if selected == 1 else [f"select given {selected} times"])


def check_script(text: str) -> list[str]:
    """Problems of a script."""
    lines = text.split("\n")
    problems = [] if re.match(r"#!/bin/(ba)?sh$", lines[0]) else ["no interpreter in the first line"]
    problems += ["carriage returns"] if "\r" in text else []
    commands = [number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    directives = [(number, line) for number, line in enumerate(lines) if re.match(r"#\s*PBS\b", line)]
    for number, line in directives:
        if not line.startswith("#PBS -"):
            problems.append(f"{line!r} is taken for a comment")
        if number > commands[0]:
            problems.append(f"{line!r} comes after the first command")
        problems += check_options(shlex.split(line.removeprefix("#PBS ")))
    if not any("-S /bin/bash" in line for _, line in directives):
        problems.append("without -S the login shell of the user runs the script")
    if not lines[commands[0]].startswith('cd "$PBS_O_WORKDIR"'):
        problems.append("begins in the home folder, not where it was submitted")
    if re.search(r"\bSLURM_|\$[1-9@*]", text):
        problems.append("variables that PBS does not set, or arguments, which it does not give")
    return problems
