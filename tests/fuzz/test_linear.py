"""Twice the input costs twice the work at most, counted in steps instead of measured by a clock.

Two counters: trace events (lines and calls of Python code), and the characters that regular expressions may look at.
The second is true of repeats that give back nothing, or a piece that could not be read otherwise: no pattern may have
others. Possessive repeats of groups are wrong in Python before 3.11.5 (Debian 12 has 3.11.2), so only single characters
repeat possessively.
"""

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType, ModuleType
from typing import Any

import pytest

from nomad.sip import framing, grammar, headers, lines, message, names, uri
from nomad.sip.errors import SipError
from nomad.sip.grammar import split_elements
from nomad.sip.headers import Credentials, NameAddr, Via
from nomad.sip.lines import HeaderLines
from nomad.sip.message import parse_message
from nomad.sip.uri import Uri, unescape
from nomad.transport import source

MODULES: list[ModuleType] = [framing, grammar, headers, lines, message, names, uri]


class CountedPattern:
    """A compiled pattern that counts how much text each call may look at."""

    def __init__(self, pattern: re.Pattern[str], counter: list[int]) -> None:
        self._pattern = pattern
        self._counter = counter

    def _count(self, name: str, text: str, position: int = 0) -> Any:
        result = getattr(self._pattern, name)(text, position)
        # A possessive pattern reads up to where it matched; one that failed may have read all that was left.
        self._counter[0] += (result.end() if result else len(text)) - position + 1
        return result

    def match(self, text: str, position: int = 0) -> Any:
        return self._count("match", text, position)

    def search(self, text: str, position: int = 0) -> Any:
        return self._count("search", text, position)

    def fullmatch(self, text: str) -> Any:
        return self._count("fullmatch", text)

    def sub(self, replacement: Any, text: str, count: int = 0) -> str:
        self._counter[0] += len(text)
        return self._pattern.sub(replacement, text, count=count)


def steps(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> int:
    """How many Python lines ran and how many characters the patterns may have read."""
    counter = [0]

    def trace(_frame: FrameType, _event: str, _arg: object) -> Any:
        counter[0] += 1
        return trace

    with monkeypatch.context() as patch:
        for module in MODULES:
            for name, held in list(vars(module).items()):
                if isinstance(held, re.Pattern):
                    patch.setattr(module, name, CountedPattern(held, counter))
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            run()
        except SipError:
            pass
        finally:
            sys.settrace(before)
    return counter[0]


def framed_by_bytes(data: bytes) -> None:
    framer = framing.StreamFramer()
    for index in range(len(data)):
        framer.feed(data[index : index + 1])


def framed_whole(data: bytes) -> None:
    framing.StreamFramer().feed(data)


def popped(value: str) -> None:
    held = HeaderLines()
    held.add("via", value)
    held.pop_first("via")


HEAD = "Via: SIP/2.0/UDP h\r\nFrom: <sip:a>\r\nTo: <sip:a>\r\nCall-ID: 1\r\nCSeq: 1 A\r\n"


def as_message(value: str) -> None:
    parse_message(f"A sip:a SIP/2.0\r\n{HEAD}Contact: {value}\r\n\r\n".encode()).check()


SHORT = b"A sip:a SIP/2.0\r\nl: 0\r\n\r\n"
TEXTS = [
    '"',
    '\\"',
    '"\\',
    "<",
    ">",
    ",",
    ', "',
    '",',
    "<,>",
    ";",
    "=",
    "a=",
    ";a=1",
    "; a",
    " ",
    "\t",
    "%",
    "%41",
    "a",
    "?",
]
PARSERS: list[Callable[[str], object]] = [
    *(Uri.parse, NameAddr.parse, Via.parse, Credentials.parse, split_elements, grammar.parse_params, popped, unescape),
    *(
        as_message,
        grammar.unfold,
        grammar.parse_delta_seconds,
        names.canonical_name,
        lambda text: NameAddr.parse('"' + text),
    ),
    *(lambda text: Uri.parse("sip:" + text), lambda text: Via.parse("SIP/2.0/UDP h;" + text)),
    *(lambda text: Credentials.parse("Digest a=" + text), lambda text: NameAddr.parse("<sip:a>" + text)),
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_parsers_are_linear(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for parse in PARSERS:
        small, large = (steps(monkeypatch, partial(parse, text * size)) for size in (400, 800))
        assert large <= 2.2 * small + 400, parse


MESSAGES: list[Callable[[int], bytes]] = [
    lambda size: (f"A sip:a SIP/2.0\r\n{HEAD}" + "X-A: b\r\n" * (size // 4) + "\r\n").encode(),
    lambda size: (f"A sip:a SIP/2.0\r\n{HEAD}X-A: b" + "\r\n c" * (size // 4) + "\r\n\r\n").encode(),
    lambda size: (f"A sip:a SIP/2.0\r\n{HEAD}" + "Odd : b\r\n" * (size // 4) + "\r\n").encode(),
    lambda size: (f"A sip:a SIP/2.0\r\n{HEAD}Via: " + "SIP/2.0/UDP a," * (size // 20) + "\r\n\r\n").encode(),
    lambda size: b"\r\n" * size,
    lambda size: b"A" * size,
    lambda size: b"\x00" * size,
]


@pytest.mark.parametrize("make", MESSAGES)
def test_messages_are_linear(monkeypatch: pytest.MonkeyPatch, make: Callable[[int], bytes]) -> None:
    def run(size: int) -> int:
        return steps(monkeypatch, lambda: parse_message(make(size)).check())

    assert run(800) <= 2.2 * run(400) + 400


@pytest.mark.parametrize("feed", [framed_by_bytes, framed_whole])
@pytest.mark.parametrize("unit", [SHORT, b"\r\n", b"\r\n\r\n", b"A", b"A: b\r\n", b"A sip:a SIP/2.0\r\nl: 9\r\n\r\n"])
def test_framing_is_linear(monkeypatch: pytest.MonkeyPatch, feed: Callable[[bytes], None], unit: bytes) -> None:
    small, large = (steps(monkeypatch, partial(feed, unit * size)) for size in (100, 200))
    assert large <= 2.2 * small + 400


def test_the_counters_notice_quadratic_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def rescans(text: str) -> None:
        for start in range(len(text)):
            grammar.QUOTED.match(text, start)

    def loops(text: str) -> None:
        for start in range(len(text)):
            for _ in text[start:]:
                pass

    for run in (rescans, loops):
        small, large = (steps(monkeypatch, partial(run, '"' + "a" * size)) for size in (100, 200))
        assert large > 1.5 * small
    small, large = (steps(monkeypatch, partial(loops, "a" * size)) for size in (100, 200))
    assert large > 3.5 * small


def test_every_repeat_in_a_pattern_can_be_read_in_one_way_only() -> None:
    for module in (*MODULES, source):
        for name, held in vars(module).items():
            if isinstance(held, re.Pattern):
                assert not list(backtracking(re._parser.parse(held.pattern, held.flags))), name  # type: ignore[attr-defined]


@pytest.mark.parametrize("pattern", ["a*", "(?:ab)*+", "(?:a*b)*", "(?:a(?:ab)?)*", "(?:(?:b)?)*"])
def test_the_rule_notices_what_may_be_read_in_several_ways(pattern: str) -> None:
    assert list(backtracking(re._parser.parse(pattern)))  # type: ignore[attr-defined]


def backtracking(node: Any) -> Iterator[Any]:
    """The repeats of a parsed pattern that some texts fit in more than one way, or that old interpreters get wrong."""
    if isinstance(node, tuple) and len(node) == 2 and "REPEAT" in str(node[0]):
        low, high, body = node[1]
        single = len(body) == 1 and str(body[0][0]) in {"IN", "LITERAL", "NOT_LITERAL", "ANY"}
        if str(node[0]) == "POSSESSIVE_REPEAT":
            if not single:
                yield node
        elif low != high and high > 8 and (single or not one_way(body)):
            yield node
    if isinstance(node, tuple | list) or type(node).__name__ == "SubPattern":
        for child in node:
            yield from backtracking(child)


def one_way(body: Any) -> bool:
    """Whether each turn of a repeated group shows by its first character which way it goes, and where it ends."""
    starts = [beginning(way) for way in ways(body)]
    seen: set[int] = set()
    for start in starts:
        if not start or seen & start:
            return False
        seen |= start
    optional = [
        beginning(value[2])
        for way in ways(body)
        for kind, value in way
        if str(kind) == "MAX_REPEAT" and value[0] != value[1]
    ]
    return all(start and not start & seen for start in optional)


def ways(body: Any) -> list[Any]:
    """The alternatives of a group."""
    if len(body) == 1 and str(body[0][0]) == "BRANCH":
        return list(body[0][1][1])
    return [body]


def beginning(way: Any) -> set[int]:
    """The characters that a sequence may begin with; empty when it may be empty."""
    kind, value = str(way[0][0]), way[0][1]
    if kind == "POSSESSIVE_REPEAT":
        return beginning(value[2]) if value[0] else set()
    if kind == "LITERAL":
        return {value}
    if kind == "IN" and str(value[0][0]) != "NEGATE":
        found: set[int] = set()
        for name, what in value:
            found |= {what} if str(name) == "LITERAL" else set(range(what[0], min(what[1], 0x2FF) + 1))
        return found
    return set()


def test_the_header_that_took_others_exponential_time(monkeypatch: pytest.MonkeyPatch) -> None:
    header = ("Digest " + ',"' * 60)[:127]
    for parse in (Credentials.parse, split_elements, popped, NameAddr.parse):
        assert steps(monkeypatch, partial(parse, header)) < 3000
