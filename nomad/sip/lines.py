"""The header of a message as a list of lines, edited line by line and element by element (RFC 3261 7.3).

A line that nobody touched stays as it came. Does not know what the values mean.
"""

from __future__ import annotations

from typing import Any

from nomad.sip.errors import SipError
from nomad.sip.grammar import MAX_ELEMENTS, first_comma, split_elements, unfold
from nomad.sip.names import wire_name


class HeaderLines:
    """Header lines in order. Names are canonical: lower case, long form."""

    __slots__ = ("_length", "_lines", "_names", "_typed")

    def __init__(self) -> None:
        self._names: list[str] = []  # canonical names, one per line
        self._lines: list[str] = []  # whole lines as on the wire, folds included
        self._typed: dict[str, Any] = {}  # parsed values by header; lists under the name and "*"
        self._length = -1  # what Content-Length says, negative when that is unknown

    def get(self, name: str) -> str | None:
        """The value of the first line of that name, None when there is none."""
        if name not in self._names:
            return None
        return line_value(self._lines[self._names.index(name)])

    def get_all(self, name: str) -> list[str]:
        """The value of each line of that name."""
        if name not in self._names:
            return []
        return [line_value(line) for held, line in zip(self._names, self._lines, strict=True) if held == name]

    def elements(self, name: str) -> list[str]:
        """The elements of a comma-separated header over all its lines (RFC 3261 7.3.1)."""
        values = self.get_all(name)
        if not values:
            return values
        try:
            if len(values) == 1:
                return split_elements(values[0])
            found = [element for value in values for element in split_elements(value)]
            if len(found) > MAX_ELEMENTS:
                raise SipError("list", "too many list elements")
        except SipError as error:
            error.header = wire_name(name)
            raise
        return found

    def has(self, name: str) -> bool:
        """Whether there is such a line."""
        return name in self._names

    def has_more(self, name: str) -> bool:
        """Whether a list has a second element."""
        return name in self._names and (self._names.count(name) > 1 or bool(self._first_element(name)[2]))

    def set(self, name: str, value: str) -> None:
        """Put this value into the first line of that name and drop the others; append a line when there is none."""
        line = format_line(name, value)
        names = self._names
        if name not in names:
            names.append(name)
            self._lines.append(line)
        else:
            index = names.index(name)
            self._lines[index] = line
            if names.count(name) > 1:
                self._remove_from(name, index + 1)
        self._changed(name)

    def add(self, name: str, value: str) -> None:
        """Append a line."""
        self._lines.append(format_line(name, value))
        self._names.append(name)
        self._changed(name)

    def prepend(self, name: str, value: str) -> None:
        """Put a line above the first one of that name, or above all when there is none."""
        line = format_line(name, value)
        index = self._names.index(name) if name in self._names else 0
        self._lines.insert(index, line)
        self._names.insert(index, name)
        self._changed(name)

    def remove(self, name: str) -> int:
        """Drop every line of that name; tells how many there were."""
        if name not in self._names:
            return 0
        removed = self._remove_from(name, 0)
        self._changed(name)
        return removed

    def take_lines(self, other: HeaderLines, names: frozenset[str]) -> None:
        """Append another message's lines of these names, in their order and as they stand."""
        for name, line in zip(other._names, other._lines, strict=True):
            if name in names:
                self._names.append(name)
                self._lines.append(line)

    def pop_first(self, name: str) -> str | None:
        """Take out the first list element of a header, also when its line holds more; None when there is none."""
        index, first, rest = self._first_element(name)
        if index < 0:
            return None
        if rest:
            self._lines[index] = format_line(name, rest)
        else:
            del self._lines[index], self._names[index]
        self._changed(name)
        return first

    def replace_first(self, name: str, value: str) -> None:
        """Put this value in the place of the first list element; append a line when there is none."""
        index, _, rest = self._first_element(name)
        if index < 0:
            self.add(name, value)
            return
        self._lines[index] = format_line(name, f"{value}, {rest}" if rest else value)
        self._changed(name)

    def _first_element(self, name: str) -> tuple[int, str, str]:
        """Line number, first element and what follows it in that line; lines without any element are passed over."""
        for index, held in enumerate(self._names):
            if held != name:
                continue
            value = line_value(self._lines[index])
            if "," in value:
                value = value.lstrip(" \t,")
                comma = first_comma(value)
                if comma >= 0:
                    return index, value[:comma].rstrip(" \t"), value[comma + 1 :].strip(" \t,")
            if value:
                return index, value, ""
        return -1, "", ""

    def _remove_from(self, name: str, start: int) -> int:
        names, lines = self._names, self._lines
        kept = [index for index in range(start, len(names)) if names[index] != name]
        removed = len(names) - start - len(kept)
        lines[start:] = [lines[index] for index in kept]
        names[start:] = [names[index] for index in kept]
        return removed

    def _changed(self, name: str) -> None:
        typed = self._typed
        if typed:
            typed.pop(name, None)
            typed.pop(name + "*", None)
        if name == "content-length":
            self._length = -2  # unknown: encode puts it right


def line_value(line: str) -> str:
    """The value of a header line, unfolded and without blanks around."""
    value = line[line.find(":") + 1 :]
    return unfold(value) if "\r" in value else value.strip(" \t")


def format_line(name: str, value: str) -> str:
    """A header line of ours."""
    return f"{wire_name(name)}: {one_line(value)}"


def one_line(text: str) -> str:
    """Refuse text that would add lines to the message: unescaped peer text may hold any character."""
    if "\r" in text or "\n" in text:
        raise SipError("line-end", "line end inside a value")
    return text
