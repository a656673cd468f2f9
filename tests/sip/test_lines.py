"""Editing header lines and list elements."""

import pytest

from nomad.sip.errors import SipError
from nomad.sip.grammar import MAX_ELEMENTS
from nomad.sip.lines import HeaderLines, format_line, line_value, one_line


def header(*lines: tuple[str, str]) -> HeaderLines:
    made = HeaderLines()
    for name, value in lines:
        made.add(name, value)
    return made


def wire(lines: HeaderLines) -> list[str]:
    return lines._lines


VIAS = (("via", "a"), ("to", "x"), ("via", "b, c"), ("via", "d"))


def test_get() -> None:
    lines = header(*VIAS)
    assert (lines.get("via"), lines.get("to"), lines.get("from")) == ("a", "x", None)
    assert (lines.get_all("via"), lines.get_all("from")) == (["a", "b, c", "d"], [])
    assert (lines.elements("via"), lines.elements("to"), lines.elements("from")) == (["a", "b", "c", "d"], ["x"], [])
    assert (lines.has("via"), lines.has("from")) == (True, False)


def test_set_replaces_the_first_line_and_drops_the_others() -> None:
    lines = header(*VIAS)
    lines.set("via", "z")
    assert wire(lines) == ["Via: z", "To: x"]
    lines.set("to", "y")
    lines.set("call-id", "1")
    assert wire(lines) == ["Via: z", "To: y", "Call-ID: 1"]


def test_add_and_prepend() -> None:
    lines = header(("to", "x"), ("via", "a"))
    lines.prepend("via", "b")
    lines.prepend("route", "r")
    assert wire(lines) == ["Route: r", "To: x", "Via: b", "Via: a"]


def test_remove() -> None:
    lines = header(*VIAS)
    assert (lines.remove("from"), lines.remove("via")) == (0, 3)
    assert wire(lines) == ["To: x"]


def test_pop_first_takes_one_element_at_a_time() -> None:
    lines = header(*VIAS)
    assert [lines.pop_first("via") for _ in range(5)] == ["a", "b", "c", "d", None]
    assert wire(lines) == ["To: x"]


@pytest.mark.parametrize(
    ("value", "first", "left"),
    [
        ("a,b,c", "a", ["Via: b,c"]),
        (" , ,a , ,", "a", []),
        ('"x,y" <sip:a,b>;q=1 , <c>', '"x,y" <sip:a,b>;q=1', ["Via: <c>"]),
        ('"a,b"', '"a,b"', []),
        ("," * 20_000 + "a", "a", []),
    ],
)
def test_pop_first_within_a_line(value: str, first: str, left: list[str]) -> None:
    lines = header(("via", value))
    assert lines.pop_first("via") == first
    assert wire(lines) == left


def test_lines_without_any_element_are_passed_over() -> None:
    lines = header(("via", ""), ("via", ", ,"), ("via", "a"))
    assert lines.pop_first("via") == "a"
    assert lines.pop_first("via") is None


@pytest.mark.parametrize(
    ("values", "more"), [([], False), (["a"], False), (["a, b"], True), (["a", "b"], True), (['"a,b"'], False)]
)
def test_has_more(values: list[str], more: bool) -> None:
    lines = header(*(("via", value) for value in values))
    assert lines.has_more("via") is more


def test_replace_first() -> None:
    lines = header(("to", "x"), ("via", "a, b"))
    lines.replace_first("via", "z;received=1")
    lines.replace_first("to", "y")
    lines.replace_first("route", "r")
    assert wire(lines) == ["To: y", "Via: z;received=1, b", "Route: r"]


def test_take_lines_keeps_order_and_form() -> None:
    source, target = header(*VIAS), header(("from", "f"))
    source._lines[0] = "v :\r\n a"
    target.take_lines(source, frozenset({"via"}))
    assert wire(target) == ["From: f", "v :\r\n a", "Via: b, c", "Via: d"]
    assert target.get_all("via") == ["a", "b, c", "d"]


def test_a_list_is_bounded_over_all_its_lines() -> None:
    assert len(header(*[("via", "a")] * MAX_ELEMENTS).elements("via")) == MAX_ELEMENTS
    with pytest.raises(SipError) as caught:
        header(*[("via", "a")] * (MAX_ELEMENTS + 1)).elements("via")
    assert caught.value.header == "Via"


def test_a_quote_does_not_reach_into_the_next_line() -> None:
    with pytest.raises(SipError) as caught:
        header(("contact", '"a, <sip:x>'), ("contact", '"<sip:b>')).elements("contact")
    assert caught.value.header == "Contact"


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb", "\n"])
def test_values_cannot_add_lines(value: str) -> None:
    lines = header(("via", "a"))
    for edit in (lines.add, lines.set, lines.prepend, lines.replace_first):
        with pytest.raises(SipError):
            edit("via", value)
    assert wire(lines) == ["Via: a"]


def test_lines_as_text() -> None:
    assert format_line("www-authenticate", "x") == "WWW-Authenticate: x"
    assert (line_value("Via:\t a \t"), line_value("s:"), line_value("T :\r\n a\r\n  b")) == ("a", "", "a b")
    assert one_line("a\x00\u2028\x85") == "a\x00\u2028\x85"
