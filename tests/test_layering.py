"""The house keeps its order: imports go one way, and each library has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ainerd_hpc.stages.registry import STAGES
from tests.support.places import ROOT

PACKAGE = ROOT / "ainerd_hpc"

LAYERS = [
    {"errors", "types"},
    {"kernels"},
    {"models"},
    {"config", "loading", "digests", "publishing", "versions", "console"},
    {"site"},
    {"formats"},
    {"archive"},
    {"simulate", "report", "evaluation"},
    {"pretraining"},
    {"sources", "training", "executors"},
    {"correlation"},
    {"scaling"},
    {"stages"},
    {"planning", "pipeline"},
    {"submission", "doctor", "watching", "commands", "api", "figures", "tracing", "study"},
    {"cli"},
]
"""From the ground up. A module may import from lower layers and from its own."""

DOORS = {
    "dask": {"executors"},
    "distributed": {"executors"},
    "dask_jobqueue": {"executors"},
    "cryptography": {"executors"},
    "zarr": {"archive.groups", "formats.zarr"},
    "h5py": {"formats"},
    "hdf5plugin": {"formats"},
    "lightning": {"training"},
    "umap": {"kernels"},
    "hdbscan": {"kernels"},
    "faiss": {"kernels"},
    "matplotlib": {"figures", "study"},
    "pydantic": {"config", "loading", "digests", "site"},
}
"""Who alone may import a library, anywhere in a file: a module, or a package with all that is in it."""

HEAVY = {
    "torch",
    "lightning",
    "dask",
    "distributed",
    "dask_jobqueue",
    "bokeh",
    "umap",
    "hdbscan",
    "faiss",
    "numba",
    "matplotlib",
}


def _modules() -> dict[str, Path]:
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def _imports(path: Path, only_top: bool = False) -> set[str]:
    """Full names of imported modules; `only_top` leaves out imports inside functions and for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if only_top else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _layer(module: str) -> int:
    top = module.split(".")[0]
    return next(number for number, names in enumerate(LAYERS) if top in names)


def _ours(path: Path) -> set[str]:
    names = {name.removeprefix("ainerd_hpc.") for name in _imports(path) if name.startswith("ainerd_hpc.")}
    known = _modules()
    return {name for name in names if name in known or f"{name}.__init__" in known}


def test_every_module_has_a_layer() -> None:
    assert {name.split(".")[0] for name in _modules()} - set().union(*LAYERS) <= {"__init__"}


@pytest.mark.parametrize("module", sorted(set(_modules()) - {"__init__"}))
def test_imports_go_down_or_sideways(module: str) -> None:
    upward = {name for name in _ours(_modules()[module]) if _layer(name) > _layer(module)}
    assert not upward, f"{module} imports from above: {upward}"


@pytest.mark.parametrize("room", ["executors", "submission"])
def test_executors_and_submission_import_no_stage(room: str) -> None:
    modules = {name: path for name, path in _modules().items() if name.startswith(f"{room}.")}
    assert not {name: found for name, path in modules.items() if (found := _rooms(path, "stages"))}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_knows_no_other_stage(stage: str) -> None:
    module = STAGES[stage].place.partition(":")[0]
    assert _rooms(_modules()[f"stages.{module}"], "stages") <= {"stages.contract"}


def _rooms(path: Path, room: str) -> set[str]:
    """Modules of a room that a file imports, anywhere in it."""
    return {name for name in _ours(path) if name == room or name.startswith(f"{room}.")}


def test_no_import_cycles() -> None:
    graph = {name: _ours(path) for name, path in _modules().items()}
    graph = {
        name: {target if target in graph else f"{target}.__init__" for target in targets} - {name}
        for name, targets in graph.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"cycle: {' -> '.join((*trail, name))}"
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(("library", "allowed"), DOORS.items())
def test_each_library_has_one_door(library: str, allowed: set[str]) -> None:
    users = {
        name for name, path in _modules().items() if any(found.split(".")[0] == library for found in _imports(path))
    }
    strangers = {name for name in users if not any(f"{name}.".startswith(f"{door}.") for door in allowed)}
    assert not strangers


@pytest.mark.parametrize("verb", [["--help"], ["plan", "--help"], ["schema"]])
def test_light_verbs_import_nothing_heavy(verb: list[str]) -> None:
    _assert_light(verb)


def test_plan_and_status_import_nothing_heavy(simulated_source: Path, tmp_path: Path) -> None:
    for verb in ("plan", "status"):
        _assert_light([verb, "--source", str(simulated_source), "--archive", str(tmp_path / "archive")])


def _assert_light(verb: list[str]) -> None:
    script = (
        "import sys\nfrom ainerd_hpc.cli import main\n"
        f"try:\n    code = main({verb!r})\nexcept SystemExit as end:\n    code = end.code\n"
        f"print('code', code, 'heavy', sorted({HEAVY!r} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "code 0 heavy []", result.stdout + result.stderr


def test_docstrings_begin_with_what_they_are_about() -> None:
    """A phrase such as "Of a module." or "As of the task." leaves out the noun that a newcomer needs."""
    first = {"Of", "As", "By", "From", "For", "In", "With", "Without", "On", "At", "After", "Among", "Into", "To"}
    texts = [(name, text) for name, path in _modules().items() for text in _docstrings(path)]
    assert len(texts) > 2000
    assert not [(name, text[:60]) for name, text in texts if text.split()[0] in first]


def _docstrings(path: Path) -> list[str]:
    """Docstrings of a module, its classes and functions, and of what is assigned in them."""
    bodies = [getattr(node, "body", []) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    lines = [node.value for body in bodies if isinstance(body, list) for node in body if isinstance(node, ast.Expr)]
    return [line.value for line in lines if isinstance(line, ast.Constant) and isinstance(line.value, str)]
