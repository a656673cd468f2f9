"""What commands print: tables for people, JSON for scripts, one line on stderr when something is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

PIPE_WIDTH = 4000  # columns when nobody looks at a terminal: rows stay whole


class Failure(Exception):
    """The command cannot be done; the text says what, where and how to mend it."""


def say(text: str) -> None:
    """A line for people on stderr."""
    sys.stderr.write(printable(text, keep="\n") + "\n")


def printable(text: str, *, keep: str = "") -> str:
    """The text without anything that could steer a terminal; peers choose some of what we print."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


def print_json(value: Any) -> None:
    """A value as JSON on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Rows under headings; `empty` is what to say on stderr when there are none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", min_width=len(heading))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if not table.row_count:
        say(empty)
    elif sys.stdout.isatty():
        Console(highlight=False).print(table)
    else:
        console = Console(highlight=False, width=PIPE_WIDTH)
        with console.capture() as written:
            console.print(table)
        sys.stdout.writelines(f"{line.rstrip(' ')}\n" for line in written.get().split("\n")[:-1])
