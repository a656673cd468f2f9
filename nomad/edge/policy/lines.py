"""Where in a policy file a key or an entry of a list stands: a reader's aid, not a second TOML parser."""

from __future__ import annotations

import re

HEADER = re.compile(r"\s*(\[\[?)\s*([^\]\[]+?)\s*\]")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
KEY = re.compile(r"\s*((?:[\"']?[\w-]+[\"']?\s*\.\s*)*[\"']?[\w-]+[\"']?)\s*=")


class Lines:
    """Line numbers of the keys of one text, by paths such as `classes.national` and `group[1].allow`."""

    def __init__(self, text: str) -> None:
        self._text = text.splitlines()
        self._keys: dict[str, int] = {}
        self._entries: dict[int, dict[str, int]] = {}  # line where a list begins -> its entries, once somebody asks
        counts: dict[str, int] = {}
        table, depth = "", 0
        for number, line in enumerate(self._text, 1):
            if depth <= 0:
                if header := HEADER.match(line):
                    table = _named(header[2], counts, again=header[1] == "[[")
                    self._keys.setdefault(table, number)
                    continue
                if key := KEY.match(line):
                    path = ".".join(part.strip(" \t\"'") for part in key[1].split("."))
                    self._keys.setdefault(f"{table}.{path}" if table else path, number)
            depth = max(0, depth + _brackets(line))

    def of(self, path: str, entry: str = "") -> int:
        """The line of a key, or of one entry of its list; of the table when the key is not there; 0 when nothing is."""
        line = self._keys.get(path, 0)
        if line and entry:
            return self._list(line).get(entry, line)
        while not line and "." in path:
            path = path.rpartition(".")[0]
            line = self._keys.get(path, 0)
        return line

    def _list(self, start: int) -> dict[str, int]:
        """The lines of what stands in quotes in the list that begins here."""
        entries = self._entries.get(start)
        if entries is None:
            entries = self._entries[start] = {}
            depth = 0
            for number in range(start, len(self._text) + 1):
                line = self._text[number - 1]
                for quoted in QUOTED.finditer(line):
                    entries.setdefault(quoted[0][1:-1], number)
                depth += _brackets(line)
                if depth <= 0:
                    break
        return entries


def _named(header: str, counts: dict[str, int], *, again: bool) -> str:
    """The path of a table header; tables of a list are numbered."""
    parts = [part.strip(" \t\"'") for part in header.split(".")]
    path = ".".join(parts)
    if again:
        counts[path] = counts.get(path, -1) + 1
        return f"{path}[{counts[path]}]"
    first = parts[0]
    return path.replace(first, f"{first}[{counts[first]}]", 1) if first in counts else path


def _brackets(line: str) -> int:
    """How many lists and inline tables a line opens, less those it closes; what stands in quotes does not count."""
    depth, quote = 0, ""
    for char in line:
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#":
            break
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
    return depth
