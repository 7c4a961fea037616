"""The files of a submission: what its jobs read."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from ainerd_hpc.config import RunConfig
from ainerd_hpc.loading import absolute, to_yaml
from ainerd_hpc.site.allocation import system_environment
from ainerd_hpc.site.site_file import KINDS, SiteConfig
from ainerd_hpc.submission.batch import batch_system
from ainerd_hpc.submission.steps import SITE_FILE, config_of

OWN_COMMAND = (sys.executable, "-m", "ainerd_hpc.cli")


def texts(config: RunConfig, site: SiteConfig, folder: Path) -> dict[str, str]:
    """Texts by name: a config for each kind of job, what is special about the site, the scripts of `jobs/` as they are.

    The configs are whole: changes of the file that they came from reach no job that is submitted. `folder` is where
    they will lie.
    """
    suffix = batch_system(site.system).SUFFIX
    configs = {f"{kind}.yaml": to_yaml(config_of(kind, config, site, folder).model_dump(mode="json")) for kind in KINDS}
    whole = SiteConfig.model_validate(absolute(site.model_dump(exclude_unset=True)))
    configs[SITE_FILE] = to_yaml(whole.model_dump(mode="json", exclude_unset=True))
    return {**configs, "site.sh": site_text(site), **scripts(suffix)}


def scripts(suffix: str) -> dict[str, str]:
    """The scripts for one batch system, and the one that they share, by name."""
    with as_file(files("ainerd_hpc") / "jobs") as folder:
        paths = sorted([*folder.glob(f"*.{suffix}"), folder / "env.sh"])
        return {path.name: path.read_text(encoding="utf-8") for path in paths}


def site_text(site: SiteConfig) -> str:
    """What `env.sh` reads."""
    environment, program = site.environment, {"slurm": "scontrol", "pbs": "qsub"}[site.system]
    lists: Mapping[str, Sequence[str]] = {
        "COMMAND": environment.command or OWN_COMMAND,
        "LAUNCHER": environment.launcher,
        "MODULES": environment.modules,
        "VARIABLES": [f"{name}={value}" for name, value in (system_environment() | environment.variables).items()],
    }
    activate = str(environment.activate.absolute()) if environment.activate else ""
    words = {"ACTIVATE": activate, "INTERFACE": environment.interface, "RESTARTS": str(site.restarts)}
    lines = [f"AINERD_{name}=({shlex.join(values)})" for name, values in lists.items()]
    lines += [f"AINERD_{name}={shlex.quote(word)}" for name, word in words.items()]
    lines.append(f'AINERD_SCRATCH="{environment.scratch}"')
    if found := shutil.which(program):  # jobs may not have it on their PATH
        lines.append(f'PATH="$PATH":{shlex.quote(str(Path(found).parent))}')
    return "\n".join(["# From the site file, for env.sh.", *lines, ""])
