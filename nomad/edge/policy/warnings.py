"""What in a policy file is legal and hardly meant: each with file, line, key, what and mend. Refuses nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nomad.edge.policy.file import GroupTable, PolicyFile, names_of
from nomad.edge.policy.hours import HOLIDAY, parse_hours
from nomad.edge.policy.lines import Lines
from nomad.edge.policy.numbers import EMERGENCY, EXPRESSION, Numbering
from nomad.edge.policy.ruleset import FOLDED, folded

MONTH_DAYS = 31
LIMITS = (
    "max_concurrent_calls",
    "max_calls_per_hour",
    "max_minutes_per_day",
    "max_minutes_per_month",
    "max_cost_per_day",
    "max_call_minutes",
    "max_forwarded_calls",
    "max_devices",
)
SET = re.compile(r"\[\^?\]?[^\]]*\]|\\.")  # a set of an expression, or what is quoted in one


def warnings_of(tables: PolicyFile, lines: Lines, numbering: Numbering, source: str) -> tuple[str, ...]:
    """Every warning about a file that compiles, by line."""
    found = []
    for path, entry, message in _Doubts(tables, lines, numbering).all():
        line = lines.of(path, entry)
        found.append((line, f"{source}:{line}: {path}: {message}" if line else f"{source}: {path}: {message}"))
    return tuple(text for _, text in sorted(found, key=lambda each: each[0]))


Doubt = tuple[str, str, str]  # key path, entry of its list, what and mend


class _Doubts:
    """Looks for them."""

    def __init__(self, tables: PolicyFile, lines: Lines, numbering: Numbering) -> None:
        self._tables = tables
        self._lines = lines
        self._numbering = numbering
        self._forms: dict[str, str] = {}
        self._prefixes = {
            self._normalised(entry): name
            for name, entries in tables.classes.items()
            if name != EMERGENCY
            for entry in entries
            if not entry.startswith(EXPRESSION)
        }
        self._expressions = [
            re.compile(entry.removeprefix(EXPRESSION))
            for entries in tables.classes.values()
            for entry in entries
            if entry.startswith(EXPRESSION)
        ]

    def all(self) -> Iterator[Doubt]:
        yield from self._classes()
        yield from self._tariffs()
        yield from self._global_lists()
        yield from self._reach()
        for index, table in enumerate(self._tables.group):
            path = f"group[{index}]"
            yield from self._contradictions(path, table)
            yield from self._limits(path, table)
            yield from self._hours(path, table)

    # -- numbers -------------------------------------------------------------------------------------------------

    def _classes(self) -> Iterator[Doubt]:
        tables = self._tables
        if EMERGENCY not in tables.classes:
            text = "there is no class 'emergency': limits refuse emergency numbers like any other; add it"
            yield "classes", "", text
        used = {EMERGENCY, *tables.allow, *tables.deny}
        for group in tables.group:
            used.update(group.allow, group.deny, group.forward or ())
        first: dict[str, tuple[str, str]] = {}
        for name, entries in tables.classes.items():
            path = f"classes.{name}"
            if not entries:
                yield path, "", f"class {name} has no numbers"
            if name not in used:
                yield path, "", f"no rule uses class {name}: nobody may call it; if that is meant, write it into deny"
            for entry in entries:
                yield from _slow(path, entry)
                number = self._normalised(entry)
                if name == EMERGENCY and not entry.startswith(EXPRESSION):
                    continue  # whole numbers, looked for before all prefixes
                if number not in first:
                    first[number] = (name, entry)
                    continue
                other, as_written = first[number]
                if other != name:
                    line = self._lines.of(f"classes.{other}", as_written)
                    shown = "" if as_written == entry else f" (as '{as_written}')"
                    yield path, entry, f"'{entry}' is in class {other}{shown} too{_at(line)}, and that one counts"
                elif as_written != entry:
                    yield path, entry, f"'{entry}' is the same as '{as_written}' here; leave one out"
                else:
                    yield path, entry, f"'{entry}' stands here twice; leave one out"

    def _tariffs(self) -> Iterator[Doubt]:
        for name in self._tables.tariffs:
            if name not in self._tables.classes:
                known = ", ".join(sorted(self._tables.classes))
                yield f"tariffs.{name}", "", f"there is no class '{name}', so nothing costs this; classes are {known}"
            elif name == EMERGENCY:
                yield f"tariffs.{name}", "", "emergency calls are never counted; leave it out"

    def _global_lists(self) -> Iterator[Doubt]:
        tables = self._tables
        yield from self._both("allow", tables.allow, (("deny", tables.deny),))
        yield from self._emergency("deny", tables.deny)
        for entry in tables.deny:
            yield from _slow("deny", entry)
        if not tables.group:
            yield "group", "", "there is no [[group]]: nobody may call anything but emergency numbers"

    def _contradictions(self, path: str, table: GroupTable) -> Iterator[Doubt]:
        tables = self._tables
        denies = (("deny", tables.deny), (f"{path}.deny", table.deny))
        yield from self._both(f"{path}.allow", table.allow, denies)
        yield from self._emergency(f"{path}.deny", table.deny)
        for entry in table.deny:
            yield from _slow(f"{path}.deny", entry)
            other = next((each for each in tables.deny if self._covers(each, entry)), None)
            if other is not None:
                line = self._lines.of("deny", other)
                yield f"{path}.deny", entry, f"'{entry}' is denied to everybody{_at(line)} already"
        allowed = (*table.allow, *tables.allow)
        for entry in table.forward or ():
            if entry in tables.classes and not any(self._covers(other, entry) for other in allowed):
                yield f"{path}.forward", entry, f"'{entry}' is not allowed to the group, so nothing is forwarded to it"

    def _both(self, path: str, entries: Sequence[str], denies: Sequence[tuple[str, Sequence[str]]]) -> Iterator[Doubt]:
        """Entries that are allowed and denied, and those that stand twice."""
        seen: set[str] = set()
        for entry in entries:
            if entry in seen:
                yield path, entry, f"'{entry}' stands here twice; leave one out"
            seen.add(entry)
            yield from _slow(path, entry)
            for where, others in denies:
                found = next((other for other in others if self._covers(other, entry)), None)
                if found is not None:
                    line = self._lines.of(where, found)
                    is_number = found in self._tables.classes and entry not in self._tables.classes
                    mend = "; give it a class of its own" if is_number else ""
                    text = f"'{entry}' is allowed here, but {where} has '{found}'{_at(line)}: it is denied"
                    yield path, entry, text + mend
                    break

    def _emergency(self, path: str, denied: Sequence[str]) -> Iterator[Doubt]:
        for entry in denied:
            numbers = self._tables.classes.get(EMERGENCY, ())
            if entry == EMERGENCY or entry in numbers:
                yield path, entry, f"'{entry}' cannot be denied: emergency numbers are always allowed"

    def _covers(self, wide: str, entry: str) -> bool:
        """Whether every number of an entry is one of another's, as far as that shows without trying numbers."""
        if wide == entry:
            return True
        classes = self._tables.classes
        if wide in classes:
            return entry not in classes and not entry.startswith(EXPRESSION) and self._all_in(wide, entry)
        if wide.startswith(EXPRESSION):
            return False
        if entry in classes:
            return bool(classes[entry]) and all(self._covers(wide, each) for each in classes[entry])
        if entry.startswith(EXPRESSION):
            return False
        return self._normalised(entry).startswith(self._normalised(wide))

    def _all_in(self, name: str, entry: str) -> bool:
        """Whether all numbers with a prefix are in one class: the longest prefix decides, if no expression does."""
        number = self._normalised(entry)
        lengths = range(len(number), 0, -1)
        if next((self._prefixes[number[:size]] for size in lengths if number[:size] in self._prefixes), "") != name:
            return False
        if any(other != name and prefix.startswith(number) for prefix, other in self._prefixes.items()):
            return False
        forms = (number, self._numbering.local(number))
        return not any(expression.fullmatch(form) for expression in self._expressions for form in forms)

    def _normalised(self, entry: str) -> str:
        if entry.startswith(EXPRESSION):
            return entry
        form = self._forms.get(entry)
        if form is None:
            form = self._forms[entry] = self._numbering.normalise_prefix(entry)
        return form

    # -- groups --------------------------------------------------------------------------------------------------

    def _reach(self) -> Iterator[Doubt]:
        """Groups and names that an earlier group takes away."""
        default = ""
        taken: dict[tuple[str, str], str] = {}
        for index, table in enumerate(self._tables.group):
            path = f"group[{index}]"
            if default:
                yield path, "", f"group {table.name} is never reached: {default} before it is for everybody"
                continue
            names = [(kind, folded(value) if kind in FOLDED else value) for kind, value in names_of(table.match)]
            shadows = {name: taken[name] for name in names if name in taken}
            if names and len(shadows) == len(names):
                others = ", ".join(dict.fromkeys(shadows.values()))
                yield path, "", f"group {table.name} is never reached: all that it matches is in {others} before it"
            else:
                for (kind, value), other in shadows.items():
                    yield f"{path}.match", "", f"{kind} '{value}' is in {other} before it, and that one counts"
            line = self._lines.of(path)
            for name in names:
                taken.setdefault(name, f"group {table.name}{_at(line)}")
            if table.match.default:
                default = f"group {table.name}{_at(line)}"

    def _limits(self, path: str, table: GroupTable) -> Iterator[Doubt]:
        for key in LIMITS:
            if getattr(table, key) == 0:
                what = "device" if key == "max_devices" else "call"
                yield f"{path}.{key}", "", f"is 0 and allows no {what} at all; leave it out for no limit"
        day, month, call = table.max_minutes_per_day, table.max_minutes_per_month, table.max_call_minutes
        if day and month and month >= day * MONTH_DAYS:
            yield (
                f"{path}.max_minutes_per_month",
                "",
                f"is never reached: max_minutes_per_day = {day} comes first",
            )
        if month and day and day > month:
            yield f"{path}.max_minutes_per_day", "", f"is never reached: max_minutes_per_month = {month} is smaller"
        least = min((limit for limit in (day, month) if limit), default=0)
        if call and least and call > least:
            yield f"{path}.max_call_minutes", "", f"is never reached: {least} minutes are used up before"
        if table.max_cost_per_day and not set(self._tables.tariffs) & set(self._tables.classes):
            yield f"{path}.max_cost_per_day", "", "is never reached: no class has a tariff; add [tariffs.CLASS]"

    def _hours(self, path: str, table: GroupTable) -> Iterator[Doubt]:
        for text in table.hours:
            hours = parse_hours(text)
            if hours.is_empty:
                yield f"{path}.hours", text, f"'{text}' never applies: it ends when it begins"
            elif hours.days == {HOLIDAY} and not self._tables.holidays:
                yield f"{path}.hours", text, f"'{text}' never applies: there are no holidays; list them at the top"


def _slow(path: str, entry: str) -> Iterator[Doubt]:
    if entry.startswith(EXPRESSION) and _repeats_what_varies(entry.removeprefix(EXPRESSION)):
        text = f"'{entry}' repeats a repetition or a choice: a long number may hold up the edge; write it without"
        yield path, entry, text


def _repeats_what_varies(expression: str) -> bool:
    """Whether "([0-9]+)+" or "(0|00)*" stands in an expression: those try every way to cut a number into pieces."""
    text = SET.sub("x", expression)
    varies = [False]  # of each group that is open, outermost first
    for place, char in enumerate(text):
        if char == "(":
            varies.append(False)
        elif char == ")" and len(varies) > 1:
            inner = varies.pop()
            if inner and text[place + 1 : place + 2] in ("*", "+", "{"):
                return True
            varies[-1] |= inner
        elif char in "*+{|":
            varies[-1] = True
    return False


def _at(line: int) -> str:
    return f" (line {line})" if line else ""
