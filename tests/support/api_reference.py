"""What the Python API promises: `golden/api.json` holds its signatures with the version of the API.

`python -m tests.support.api_reference` writes them down after a change, under the next version, which CHANGELOG.md then
has to tell of: a test compares.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Iterator
from typing import Any

from ainerd_hpc import api
from tests.support.places import GOLDEN

_FILE = GOLDEN / "api.json"


def signatures() -> dict[str, str]:
    """Signatures of all that is public, by name."""
    return {name: _signature(member) for name, member in _members()}


def recorded() -> dict[str, Any]:
    """The version that is written down, and its signatures."""
    found: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def reference() -> str:
    """A table of all that is public, for the docs."""
    lines = ["| name | what it is |", "|---|---|"]
    for name, member in _members():
        text = (inspect.getdoc(_function(member)) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `{name}{_short(member)}` | {text} |")
    return f"Version {recorded()['version']} of the API.\n\n" + "\n".join(lines)


def _members() -> Iterator[tuple[str, Any]]:
    for name in api.__all__:
        thing = getattr(api, name)
        yield name, thing
        if inspect.isclass(thing):
            members = {key: one for part in reversed(thing.__mro__[:-1]) for key, one in vars(part).items()}
            yield from ((f"{name}.{key}", one) for key, one in members.items() if not key.startswith("_"))


def _function(member: Any) -> Any:
    if isinstance(member, functools.cached_property):
        return member.func
    return member.fget if isinstance(member, property) else member


def _signature(member: Any) -> str:
    found = inspect.signature(_function(member))
    kind = "" if _function(member) is member else "property "
    return kind + str(found).replace("'", "")


def _short(member: Any) -> str:
    """The parameters without their types; nothing of a property or a class."""
    if _function(member) is not member or inspect.isclass(member):
        return ""
    parameters = [one for one in inspect.signature(member).parameters.values() if one.name != "self"]
    return f"({', '.join(f'**{one.name}' if one.kind is one.VAR_KEYWORD else one.name for one in parameters)})"


if __name__ == "__main__":
    if not _FILE.exists():
        _FILE.write_text('{"version": 0, "signatures": {}}', encoding="utf-8")
    before = recorded()
    if signatures() != before["signatures"]:
        now = {"version": before["version"] + 1, "signatures": signatures()}
        _FILE.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")
