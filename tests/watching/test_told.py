"""Lines that outlive a kill, and a command that is given them."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from ainerd_hpc.watching import told
from ainerd_hpc.watching.told import Command, Told


def test_a_line_that_a_kill_cut_off_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    Told(path).tell({"scan_id": "a", "n": 1})
    with path.open("a") as file:
        file.write('{"scan_id": "b", "n"')
    again = Told(path)
    assert list(again.lines) == ["a"]
    again.tell({"scan_id": "b", "n": 2})
    again.tell({"scan_id": "a", "n": 3})
    assert Told(path).lines == {"b": {"scan_id": "b", "n": 2}, "a": {"scan_id": "a", "n": 3}}


def _ended(command: Command) -> None:
    """Look until nothing runs any more."""
    until = time.monotonic() + 20
    while command._running and time.monotonic() < until:
        command.look()
        time.sleep(0.01)
    assert not command._running


def test_a_command_is_given_the_line_and_nothing_else(tmp_path: Path) -> None:
    """Words are what they are: no shell, whatever a scan is called."""
    line = {"scan_id": "$(touch harm); 'x'"}
    program = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read() + sys.argv[2])"
    command = Command([sys.executable, "-c", program, str(tmp_path / "seen"), "a $HOME; b"])
    command.run(line)
    _ended(command)
    said, _, words = (tmp_path / "seen").read_text().partition("\n")
    assert json.loads(said) == line
    assert words == "a $HOME; b"


@pytest.mark.parametrize(
    ("words", "text"),
    [(["/no/such/program"], "cannot be started"), (["false"], "exit code 1"), (["sleep", "30"], "exit code -9")],
)
def test_a_command_that_fails_is_told_and_stops_nothing(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "_LONGEST", 0.2)
    command = Command(words)
    command.run({"scan_id": "a"})
    _ended(command)
    assert text in capsys.readouterr().out
