"""What the docs say is so: links lead somewhere; commands, keys, paths and messages exist; tables are current."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from ainerd_hpc import __version__, errors
from ainerd_hpc.cli import main
from ainerd_hpc.loading import load
from tests.support.config_reference import reference
from tests.support.generated_docs import PARTS, with_current_part
from tests.support.places import ROOT

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("configs/**/*.md")))
}
SITE_PAGE, TROUBLES = "configs/sites/README.md", "docs/troubleshooting.md"
HOLE = "…"
"""Stands for the part of a message that differs."""


def inline_code(page: str) -> list[str]:
    """What stands between backticks, outside of code blocks and of generated parts."""
    prose = re.sub(r"^```.*?^```|<!-- generated.*?<!-- end", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def command_lines(page: str) -> list[str]:
    """The lines of code blocks that call us, without what is said behind them."""
    return [line.split("  #")[0].strip() for line in re.findall(r"^    (ainerd-hpc .*)$", PAGES[page], re.MULTILINE)]


@cache
def help_of(*verb: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit):
        main([*verb, "--help"])
    return said.getvalue()


def flags_of(*verb: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]*", help_of(*verb)))


def verbs() -> set[str]:
    return set(re.findall(r"^    ([a-z]+)\b", help_of(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", PAGES[page])
    ours = [target for target in targets if not target.startswith("https://")]
    assert not [target for target in ours if not (ROOT / page).parent.joinpath(target).exists()]


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\((\w+\.md)\)", PAGES["docs/README.md"]))
    assert linked == {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"}


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 140


@pytest.mark.parametrize("page", PARTS)
def test_generated_parts_are_current(page: str) -> None:
    assert PAGES[page] == with_current_part(page), "run `python -m tests.support.generated_docs`"


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_those_of_the_parser(page: str) -> None:
    lines = command_lines(page) + [code for code in inline_code(page) if code.startswith("ainerd-hpc ")]
    for line in lines:
        _, verb, *words = shlex.split(line)
        assert verb in verbs(), line
        assert {word for word in words if word.startswith("--")} <= flags_of(verb), line


@pytest.mark.parametrize("page", sorted(set(PAGES) - {SITE_PAGE, TROUBLES}))
def test_flags_in_the_text_are_those_of_a_verb(page: str) -> None:
    known = set().union(*(flags_of(verb) for verb in verbs())) | flags_of()
    found = {word for code in inline_code(page) for word in re.findall(r"^--[a-z][a-z-]*", code)}
    assert found - {"--crop-ratio-threshold"} <= known  # that one is boost-corr's


def test_every_verb_is_in_the_readme() -> None:
    table = PAGES["README.md"].partition("## Commands")[2].partition("\n## ")[0]
    assert verbs() - {"requeue"} == set(re.findall(r"`([a-z]+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M))))


def known_keys() -> set[str]:
    """Keys of the config and of site files; each kind of job takes every key of `nodes`, too."""
    keys = set(re.findall(r"^\| `([\w.]+)` \|", reference() + PAGES[SITE_PAGE], re.MULTILINE))
    of_nodes = {key.removeprefix("nodes.") for key in keys if key.startswith("nodes.")}
    return keys | {f"{kind}.{key}" for kind in ("array", "ddp", "single") for key in of_nodes}


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"CHANGELOG.md"}))
def test_config_keys_exist(page: str) -> None:
    sections = {key.partition(".")[0] for key in known_keys()}
    dotted = {code for code in inline_code(page) if re.fullmatch(r"[a-z_]+\.[a-z_]+", code)}
    named = {code for code in dotted if code.partition(".")[0] in sections}
    named |= {key for key in re.findall(r"--set '?([a-z_.]+)=", PAGES[page]) if key != "key"}
    assert named - known_keys() <= {"model.json"}


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"CHANGELOG.md"}))
def test_paths_in_the_text_exist(page: str) -> None:
    folders = "configs|docs|jobs|tests|benchmarks|kernels|stages|formats|executors|training|submission|models"
    named = {code for code in inline_code(page) if re.fullmatch(rf"({folders})/[\w/.-]*", code)}
    lost = {name for name in named if not ((ROOT / name).exists() or (ROOT / "ainerd_hpc" / name).exists())}
    assert lost <= {"maps/index.parquet"}  # of an archive


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {code for page in PAGES for code in inline_code(page) if code.startswith("make ")}
    assert {code.split()[1] for code in named} <= targets


def test_the_citation_is_whole() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    (paper,) = citation["references"]
    for work in (citation, paper):
        assert work["title"]
        assert all("name" in author or {"family-names", "given-names"} <= set(author) for author in work["authors"])
    assert (paper["doi"], paper["start"], paper["year"]) == ("10.1038/s41467-024-49381-z", "5945", 2024)


# messages


def written(node: ast.expr) -> str | None:
    """A text of the source, with a hole where a value is filled in; None: no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
        return "".join(str(part) for part in parts)
    return None


def texts_of_the_package() -> Iterator[str]:
    for path in (ROOT / "ainerd_hpc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.expr) and (text := written(node)) is not None:
                yield text


def messages_raised() -> Iterator[str]:
    """Texts with which the errors that end a run are made; those of a scan alone follow one pattern and are many."""
    for path in (ROOT / "ainerd_hpc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
                error = getattr(errors, node.func.id, None)
                if error is not None and (text := written(node.args[0])) is not None:
                    yield text


def listed_messages() -> list[str]:
    cells = re.findall(r"^\| `(.+?)` \| ", PAGES[TROUBLES], re.MULTILINE)
    assert len(cells) > 150
    return cells


def pattern(message: str) -> re.Pattern[str]:
    """Matches texts of the source that have these words, and one value or more at each hole."""
    return re.compile(".+".join(re.escape(part) for part in message.split(HOLE)), re.DOTALL)


def test_listed_messages_are_those_of_the_package() -> None:
    texts = list(dict.fromkeys(texts_of_the_package()))
    assert [message for message in listed_messages() if not any(map(pattern(message).search, texts))] == []


def test_every_message_that_ends_a_run_is_listed() -> None:
    listed = [pattern(message) for message in listed_messages() if re.search(r"\w{4}", message)]
    told = [text for text in messages_raised() if re.search(r"\w{4}", text)]
    assert [text for text in told if not any(one.match(text) for one in listed)] == []


# what the README shows


@pytest.mark.slow
def test_the_snippets_of_the_readme_run(whole_archive: Path) -> None:
    (tables, correlations) = re.findall(r"```python\n(.*?)```", PAGES["README.md"], re.DOTALL)
    code = (tables + correlations).replace("DIR", str(whole_archive)).replace("SCAN_ID", "sim_0000")
    names: dict = {}
    exec(code, names)
    assert set(names["maps"]["scan_id"]) == {f"sim_{number:04}" for number in range(6)}
    assert names["c2"].dims == ("t1", "t2")
    assert names["c2"].shape == (64, 64)
    assert abs(float(names["c2"][0, 1:].mean()) - 1) < 0.5
    assert names["g2"].g2.dims == ("q_bin", "delay")


def test_the_configs_that_the_docs_name_are_valid(tmp_path: Path) -> None:
    for name in ("quickstart", "archive"):
        assert load(ROOT / "configs" / f"{name}.yaml").archive
