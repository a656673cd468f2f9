"""Numbers as people dial them: cleaning, bringing to E.164, and finding what a policy says of a number.

An entry is a prefix, or `re:` and a regular expression for the whole number, in E.164 or as it is dialled from here.
The longest match wins; an expression matches as long as the number is. Entries of the class `emergency` are whole
numbers, never prefixes: a prefix there would open every number that begins like one. The PBX gets what was dialled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from phonenumbers import PhoneMetadata

from nomad.edge.policy.e164 import canonical, is_e164, national

MAX_NUMBER_LENGTH = 64
MAX_CACHED = 10_000  # numbers whose class is remembered
LONGEST_INTERNAL = 6  # digits; no number of E.164 that is dialled with a prefix is so short
EMERGENCY = "emergency"
EXPRESSION = "re:"
VISUAL_SEPARATORS = str.maketrans("", "", "-.() ")  # RFC 3966 5.1.1
NUMBER = re.compile(r"\+?[0-9*#]+")
PREFIX = re.compile(r"(?=.)\+?[0-9*#]*")


def clean(text: str) -> str:
    """A dialled number without visual separators, "" when it is no number (then it may be a name)."""
    number = text.translate(VISUAL_SEPARATORS)
    return number if len(number) <= MAX_NUMBER_LENGTH and NUMBER.fullmatch(number) else ""


class Numbering:
    """How numbers are dialled at a site; without a country they stay as they are."""

    def __init__(
        self,
        country: str = "",
        *,
        international_prefix: str = "",
        national_prefix: str = "",
        outside_prefix: str = "",
        longest_internal: int = LONGEST_INTERNAL,
    ) -> None:
        """Raises `ValueError` for a country that does not exist."""
        self.country_code = ""
        self._abroad: re.Pattern[str] | None = None  # where each carrier has an international prefix of its own
        self.outside = outside_prefix
        self.longest_internal = longest_internal
        if country:
            metadata = PhoneMetadata.metadata_for_region(country)
            if metadata is None:
                raise ValueError(f"'{country}' is no country; write its ISO 3166 code, as in 'FR'")
            self.country_code = str(metadata.country_code)
            usual = (metadata.preferred_international_prefix or metadata.international_prefix or "").replace("~", "")
            pattern = metadata.international_prefix or ""
            if pattern and not pattern.isdigit() and not international_prefix:
                self._abroad = re.compile(pattern)
            international_prefix = international_prefix or (usual if usual.isdigit() else "00")
            national_prefix = national_prefix or metadata.national_prefix or ""
        self.international = international_prefix
        self.national = national_prefix
        # Where the national prefix is the country's code, as "1" in North America, people leave it out as well.
        self.is_bare = bool(country) and self.national in ("", self.country_code)
        self._country = country

    def normalise(self, number: str) -> str:
        """A clean number in E.164, or as it was dialled when it is internal, a short code or no outside number."""
        return self.forms(number)[0]

    def forms(self, number: str) -> tuple[str, str]:
        """The same, and what the PBX is to dial: what was dialled, without national prefixes that do not belong there.

        A PBX that makes "0" of "+33" would make an international call of "+33044...".
        """
        if not self.country_code or not number or is_code(number):
            return number, number
        if number[0] == "+":
            e164 = canonical(number)
            return e164, e164
        digits = self.without_outside(number)
        if len(digits) <= self.longest_internal:
            return number, number
        prefix = self._prefix_of(digits)
        if prefix is None:
            return number, number
        as_dialled = self.normalise_prefix(digits)
        if as_dialled[0] != "+":
            return national(digits, self._country) if self.is_bare else number, number
        e164 = canonical(as_dialled)
        if e164 == as_dialled:
            return e164, number
        outside = number[: len(number) - len(digits)]
        if prefix:
            return e164, f"{outside}{prefix}{e164[1:]}"
        return e164, f"{outside}{self.national}{e164[1:].removeprefix(self.country_code)}"

    def _prefix_of(self, digits: str) -> str | None:
        """The international prefix that a number was dialled with, "" without one; None when it is no carrier's."""
        if self._abroad is None:
            return self.international if self.international and digits.startswith(self.international) else ""
        found = self._abroad.match(digits)
        if found:
            return found[0]
        return None if digits.startswith(self.international) else ""

    def without_outside(self, number: str) -> str:
        """A number without what the PBX wants before outside numbers."""
        return number.removeprefix(self.outside) if self.outside and len(number) > len(self.outside) else number

    def normalise_prefix(self, prefix: str) -> str:
        """The beginning of numbers, written as people dial it (without the outside prefix) or as in E.164."""
        if not self.country_code or prefix[0] == "+":
            return prefix
        if self._abroad is not None and (found := self._abroad.match(prefix)):
            return f"+{prefix[found.end() :]}"
        if self.international and prefix.startswith(self.international):
            return f"+{prefix.removeprefix(self.international)}"
        if self.national and prefix.startswith(self.national):
            return f"+{self.country_code}{prefix.removeprefix(self.national)}"
        return prefix

    def local(self, number: str) -> str:
        """A normalised number as it is dialled from the site, so that each number has one such form only."""
        if not self.country_code or not number.startswith("+"):
            return number
        digits = number[1:]
        if not digits.startswith(self.country_code):
            return self.international + digits
        digits = digits.removeprefix(self.country_code)
        return digits if self.is_bare else self.national + digits


def is_code(number: str) -> bool:
    """Whether a number or an entry is no mere number: a PBX or a gateway may do anything with "*" and "#"."""
    return "*" in number or "#" in number


def entry_problem(entry: str) -> str:
    """What is wrong with an entry, "" when nothing is."""
    if entry.startswith(EXPRESSION):
        try:
            re.compile(entry.removeprefix(EXPRESSION))
        except (re.error, OverflowError, RecursionError) as error:
            mend = "; write [+] for a plus" if entry.startswith("re:+") else ""
            return f"'{entry}' is no regular expression: {error}{mend}"
        return ""
    return "" if PREFIX.fullmatch(entry) else f"'{entry}' is no prefix of digits; begin patterns with 're:'"


class Entry(NamedTuple):
    """An entry of a list and where it stands."""

    text: str
    line: int = 0


class Found(NamedTuple):
    """The class of a number: "" and no entry when it is in none."""

    number: str  # normalised
    local: str  # as it is dialled from the site
    name: str = ""
    entry: Entry = Entry("")
    dial: str = ""  # what the PBX is to dial, when that is not what was dialled
    exists: bool = True  # False: it looks like a number of E.164 and can be none


class NumberClasses:
    """Looks up the class of a number; one hash look-up per prefix length in use."""

    __slots__ = ("_emergencies", "_expressions", "_found", "_lengths", "_prefixes", "_whole", "numbering")

    def __init__(
        self,
        classes: Mapping[str, Sequence[str | Entry]],
        numbering: Numbering | None = None,
    ) -> None:
        self.numbering = numbering or Numbering()
        self._whole: dict[str, Found] = {}
        self._prefixes: dict[str, tuple[str, Entry]] = {}
        self._expressions: list[tuple[re.Pattern[str], str, Entry]] = []
        self._emergencies: list[tuple[re.Pattern[str], Entry]] = []
        self._found: dict[str, Found] = {}
        for name, entries in classes.items():
            for each in entries:
                entry = each if isinstance(each, Entry) else Entry(each)
                text = entry.text
                if text.startswith(EXPRESSION):
                    expression = re.compile(text.removeprefix(EXPRESSION))
                    if name == EMERGENCY:
                        self._emergencies.append((expression, entry))
                    else:
                        self._expressions.append((expression, name, entry))
                elif name == EMERGENCY:
                    number = self.numbering.normalise(text)
                    self._whole[text] = self._whole[number] = Found(number, text, name, entry)
                else:
                    self._prefixes.setdefault(self.numbering.normalise_prefix(text), (name, entry))
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)

    def find(self, dialled: str) -> Found:
        """Class of a clean number and the entry that matched."""
        found = self._found.get(dialled)
        if found is None:
            if len(self._found) >= MAX_CACHED:
                self._found.clear()
            found = self._found[dialled] = self._look(dialled)
        return found

    def _look(self, dialled: str) -> Found:
        number, dial = self.numbering.forms(dialled)
        local = self.numbering.local(number)
        forms = (dialled, self.numbering.without_outside(dialled), number, local)
        for form in forms[:3]:
            if form in self._whole:
                return self._whole[form]
        for expression, entry in self._emergencies:
            if any(map(expression.fullmatch, forms)):
                return Found(number, local, EMERGENCY, entry)
        if dial == dialled:
            dial = ""
        if number.startswith("+") and not is_e164(number):
            return Found(number, local, exists=False)
        for expression, name, entry in self._expressions:
            if expression.fullmatch(number) or expression.fullmatch(local):
                return Found(number, local, name, entry, dial)
        code = is_code(number)
        for length in self._lengths:
            match = self._prefixes.get(number[:length]) or self._prefixes.get(local[:length])
            if match is not None and (not code or is_code(match[1].text)):
                return Found(number, local, *match, dial)
        return Found(number, local, dial=dial)


class NumberList:
    """Classes, prefixes and expressions, as an `allow` or `deny` has them."""

    __slots__ = ("_classes", "_expressions", "_lengths", "_prefixes", "_wide", "texts")

    def __init__(
        self, entries: Sequence[Entry], classes: frozenset[str], numbering: Numbering, *, wide: bool = False
    ) -> None:
        """`wide`: a prefix of digits is for codes too that begin so, as a `deny` wants it."""
        self._wide = wide
        self.texts = tuple(entry.text for entry in entries)
        self._classes: dict[str, Entry] = {}
        self._prefixes: dict[str, Entry] = {}
        self._expressions: list[tuple[re.Pattern[str], Entry]] = []
        for entry in entries:
            if entry.text in classes:
                self._classes.setdefault(entry.text, entry)
            elif entry.text.startswith(EXPRESSION):
                self._expressions.append((re.compile(entry.text.removeprefix(EXPRESSION)), entry))
            else:
                self._prefixes.setdefault(numbering.normalise_prefix(entry.text), entry)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)

    def __bool__(self) -> bool:
        return bool(self.texts)

    def find(self, found: Found) -> Entry | None:
        """The entry that a number is under, None when it is under none."""
        entry = self._classes.get(found.name)
        if entry is not None:
            return entry
        for length in self._lengths:
            entry = self._prefixes.get(found.number[:length]) or self._prefixes.get(found.local[:length])
            if entry is not None and (self._wide or not is_code(found.number) or is_code(entry.text)):
                return entry
        for expression, entry in self._expressions:
            if expression.fullmatch(found.number) or expression.fullmatch(found.local):
                return entry
        return None
