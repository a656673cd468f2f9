from __future__ import annotations

import io
import sys

import pytest

from nomad.cli.output import print_json, print_table, printable, say

ROWS = [("alice", "x" * 300), ("bob", "[bold]y[/bold]")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rows_stay_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("USER", "TEXT"), ROWS, empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["USER", "TEXT"], ["alice", "x" * 300], ["bob", "[bold]y[/bold]"]]


def test_colour_on_a_terminal_only_and_not_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    print_table(("USER",), [("alice",)], empty="none")
    assert "\x1b[" in screen.getvalue()
    assert max(map(len, screen.getvalue().splitlines())) < 200

    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    print_table(("USER",), [("alice",)], empty="none")
    assert "\x1b" not in pipe.getvalue()


def test_nothing_to_show_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("USER",), [], empty="nobody")
    assert capsys.readouterr() == ("", "nobody\n")


def test_json_has_no_undecodable_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "café"})
    assert capsys.readouterr().out == '{\n  "name": "caf\\u00e9"\n}\n'


def test_messages_keep_lines_but_no_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\ntwo\x1b[2J")
    assert capsys.readouterr().err == "one\ntwo\\x1b[2J\n"
    assert printable("café\n") == "café\\n"
