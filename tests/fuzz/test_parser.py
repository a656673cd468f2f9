"""Whatever bytes come: only SipError leaves the parser, and what was read is written back unchanged."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad.sip.build import ack_for, cancel_for, response_to
from nomad.sip.errors import SipError
from nomad.sip.grammar import format_params, parse_delta_seconds, parse_params, parse_q, split_elements
from nomad.sip.headers import Challenge, Credentials, CSeq, NameAddr, Via
from nomad.sip.lines import HeaderLines
from nomad.sip.message import MalformedMessage, Message, Request, Response, parse_message
from nomad.sip.uri import Uri
from tests.fuzz.strategies import VALUES, message, near, soup, value

PARSERS: list[Callable[[str], object]] = [
    *(Uri.parse, NameAddr.parse, Via.parse, CSeq.parse, Challenge.parse, Credentials.parse),
    *(parse_params, parse_q, parse_delta_seconds, split_elements),
]
TYPED = [
    "call_id",
    "cseq",
    "via",
    "vias",
    "from_",
    "to",
    "contacts",
    "contact_star",
    "max_forwards",
    "expires",
    "routes",
]
EDITED = ["via", "contact", "route", "call-id", "x-odd", "subject", "content-length"]


def touch(read: Callable[[], object]) -> None:
    """Only SipError may leave."""
    try:
        read()
    except SipError:
        pass


@given(message)
def test_only_sip_error_leaves_the_parser(data: bytes) -> None:
    try:
        parsed = parse_message(data)
    except MalformedMessage as error:
        if error.request is not None:
            parse_answer(response_to(error.request, error.status, to_tag="t"))
        return
    for name in TYPED:
        touch(lambda name=name: getattr(parsed, name))  # type: ignore[misc]
    touch(parsed.check)
    for name in ("via", "contact", "supported", "authorization", "x-odd"):
        touch(lambda name=name: parsed.elements(name))  # type: ignore[misc]


def parse_answer(answer: Response) -> None:
    """A stateless answer to a malformed request is at least one message with the lines it should have."""
    head, _, body = answer.encode().partition(b"\r\n\r\n")
    assert body == b""
    assert head.count(b"\n") == head.count(b"\r\n") == head.count(b"\r")


@given(near)
def test_what_was_read_is_written_back_byte_for_byte(data: bytes) -> None:
    try:
        parsed = parse_message(data)
    except SipError:
        return
    head, _, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    assert body.startswith(parsed.body)
    had_length = parsed.has("content-length")
    written = parsed.encode()
    if had_length and not data.startswith(b"sip/"):
        assert written.startswith(head + b"\r\n\r\n")
    again = parse_message(written)
    assert again.encode() == written
    assert again.body == parsed.body


@given(near, st.lists(st.tuples(st.sampled_from(EDITED), st.integers(0, 5), value), max_size=6))
def test_edited_messages_stay_whole(data: bytes, edits: list[tuple[str, int, str]]) -> None:
    try:
        parsed = parse_message(data)
    except SipError:
        return
    for name, action, text in edits:
        touch(lambda: edit(parsed, name, action, text))  # noqa: B023  # called at once
    head, _, body = parsed.encode().partition(b"\r\n\r\n")
    assert body == parsed.body
    assert head.count(b"\r\n") == len(parsed._lines) + sum(line.count("\r\n") for line in parsed._lines)
    assert len(parsed._names) == len(parsed._lines)
    if isinstance(parsed, Request):
        touch(lambda: (ack_for(parsed, response_to(parsed, 486)).encode(), cancel_for(parsed).encode()))


def edit(parsed: Message, name: str, action: int, text: str) -> None:
    calls: list[Callable[[], object]] = [
        *(lambda: parsed.set(name, text), lambda: parsed.add(name, text), lambda: parsed.prepend(name, text)),
        *(lambda: parsed.remove(name), lambda: parsed.pop_first(name), lambda: parsed.replace_first(name, text)),
    ]
    calls[action]()


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__qualname__)
@given(st.one_of(value, soup, st.text(max_size=60)))
def test_only_sip_error_leaves_the_small_parsers(parse: Callable[[str], object], text: str) -> None:
    touch(lambda: parse(text))


@given(value)
def test_typed_values_survive_being_written(text: str) -> None:
    for parse in (Uri.parse, NameAddr.parse, Via.parse, CSeq.parse, Challenge.parse, Credentials.parse):
        try:
            first = parse(text)
        except SipError:
            continue
        if "\r" in text or "\n" in text:
            continue  # never inside a value: the parser of messages sees to it
        assert parse(str(first)) == first
    try:
        params = parse_params(text)
    except SipError:
        return
    assert parse_params(format_params(params)) == params


@given(st.lists(st.one_of(st.sampled_from(VALUES), st.text('ab<>,"\\ ', max_size=20)), min_size=1, max_size=4))
def test_popping_gives_the_elements(values: list[str]) -> None:
    lines = HeaderLines()
    for text in values:
        lines.add("route", text)
    try:
        expected = lines.elements("route")
    except SipError:
        return
    popped = []
    while (element := lines.pop_first("route")) is not None:
        popped.append(element)
    assert popped == expected
