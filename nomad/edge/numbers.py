"""Numbers as people dial them: cleaning, and finding the class of a number.

A class entry is a prefix, or `re:` and a regular expression for the whole number. The longest match wins; a regular
expression matches as long as the number is. Entries of the class `emergency` are whole numbers, never prefixes: a
prefix there would open every number that begins like one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

MAX_NUMBER_LENGTH = 64
EMERGENCY = "emergency"
VISUAL_SEPARATORS = str.maketrans("", "", "-.() ")  # RFC 3966 5.1.1
NUMBER = re.compile(r"\+?[0-9*#]+")


def clean(text: str) -> str:
    """A dialled number without visual separators, "" when it is no number (then it may be a name)."""
    number = text.translate(VISUAL_SEPARATORS)
    return number if len(number) <= MAX_NUMBER_LENGTH and NUMBER.fullmatch(number) else ""


class NumberClasses:
    """Looks up the class of a number; one hash look-up per prefix length in use."""

    __slots__ = ("_expressions", "_lengths", "_prefixes", "_whole")

    def __init__(self, classes: Mapping[str, Sequence[str]]) -> None:
        self._whole: dict[str, str] = {}
        self._prefixes: dict[str, str] = {}
        self._expressions: list[tuple[re.Pattern[str], str]] = []
        for name, entries in classes.items():
            for entry in entries:
                if entry.startswith("re:"):
                    self._expressions.append((re.compile(entry[3:]), name))
                elif name == EMERGENCY:
                    self._whole[entry] = name
                else:
                    self._prefixes.setdefault(entry, name)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)

    def find(self, number: str) -> tuple[str, str]:
        """Class of a clean number and the entry that matched; two empty strings when none does."""
        if number in self._whole:
            return self._whole[number], number
        for expression, name in self._expressions:
            if expression.fullmatch(number):
                return name, f"re:{expression.pattern}"
        for length in self._lengths:
            name = self._prefixes.get(number[:length], "")
            if name:
                return name, number[:length]
        return "", ""
