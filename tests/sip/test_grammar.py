"""Scanners for tokens, quoted strings, parameters, lists and numbers."""

import pytest

from nomad.sip.errors import SipError
from nomad.sip.grammar import (
    MAX_ELEMENTS,
    MAX_PARAMS,
    first_comma,
    format_params,
    is_digits,
    is_token,
    parse_auth_params,
    parse_delta_seconds,
    parse_number,
    parse_params,
    parse_q,
    quote,
    quoted_end,
    skip_blanks,
    split_elements,
    unfold,
    unquote,
)


@pytest.mark.parametrize(("text", "expected"), [("INVITE", True), ("a.b!%*_+`'~-", True), ("", False), ("a b", False)])
def test_token(text: str, expected: bool) -> None:
    assert is_token(text) is expected


@pytest.mark.parametrize(("text", "expected"), [("0", True), ("٣", False), ("²", False), ("", False), ("-1", False)])
def test_only_ascii_digits_are_digits(text: str, expected: bool) -> None:
    assert is_digits(text) is expected


@pytest.mark.parametrize("text", ["", "plain", 'say "hi"', "back\\slash", '\\"', "é\udcff\x00"])
def test_unquote_undoes_quote(text: str) -> None:
    assert unquote(quote(text)) == text


def test_an_open_quote_is_an_error() -> None:
    assert quoted_end('x"a\\"b"c', 1) == 7
    for text in ('"', '"abc', '"abc\\"', '"\\'):
        with pytest.raises(SipError):
            quoted_end(text, 0)


def test_skip_blanks() -> None:
    assert (skip_blanks(" \t x", 0), skip_blanks("   ", 1), skip_blanks("x", 1)) == (3, 3, 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  a b\t", "a b"),
        ("a\r\n b", "a b"),
        ("\r\n  a  \r\n\tb", "a b"),
        ("a\r\n \r\n b", "a b"),
        ("\u00a0", "\u00a0"),
    ],
)
def test_unfold(value: str, expected: str) -> None:
    assert unfold(value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" a ", ["a"]),
        ("a,b , c", ["a", "b", "c"]),
        (",,a,", ["a"]),
        ('"a,b" <sip:x>, <sip:y,z>;q=1', ['"a,b" <sip:x>', "<sip:y,z>;q=1"]),
        (',"\\",", ', ['"\\","']),
        ("<a>,", ["<a>"]),
    ],
)
def test_split_elements(text: str, expected: list[str]) -> None:
    assert split_elements(text) == expected


@pytest.mark.parametrize("text", ['a,"b', "a,<b", "a,<b,>,<"])
def test_split_elements_refuses_what_is_not_closed(text: str) -> None:
    with pytest.raises(SipError):
        split_elements(text)


@pytest.mark.parametrize(
    "text", ["a," * (MAX_ELEMENTS + 1), "<a>," * (MAX_ELEMENTS + 1), "," * 10_000, '"",' + "," * 999]
)
def test_lists_are_bounded(text: str) -> None:
    with pytest.raises(SipError, match="too many"):
        split_elements(text)


@pytest.mark.parametrize(("text", "at"), [("a", -1), ("a,b", 1), ('"a,b",c', 5), ("<a,b>,c", 5), ('"a,b"', -1)])
def test_first_comma(text: str, at: int) -> None:
    assert first_comma(text) == at


def test_first_comma_refuses_an_open_angle_bracket() -> None:
    with pytest.raises(SipError):
        first_comma("<a,b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (";a", {"a": None}),
        (";A=1;b", {"a": "1", "b": None}),
        (" ; a = 1 ;\tb ", {"a": "1", "b": None}),
        (';a="x;\\"y"', {"a": 'x;"y'}),
        (";received=2001:db8::1;r=[::1]", {"received": "2001:db8::1", "r": "[::1]"}),
        (";self=1;cls=2;kwargs", {"self": "1", "cls": "2", "kwargs": None}),
        (";tag=a/b@c==", {"tag": "a/b@c=="}),
    ],
)
def test_parse_params(text: str, expected: dict[str, str | None]) -> None:
    assert parse_params(text) == expected


@pytest.mark.parametrize(
    "text",
    ["a", ";", ";;", ";a;", ";a=", ";=1", ";a=1;A=2", ";a b", ';a="b', ';a="b"c', "; a=1 b", ";a=<b>", '; a="";a=""'],
)
def test_parse_params_refuses(text: str) -> None:
    with pytest.raises(SipError):
        parse_params(text)


@pytest.mark.parametrize("form", [";p{}=1", "; p{}"])
def test_parameters_are_bounded(form: str) -> None:
    assert len(parse_params("".join(form.format(i) for i in range(MAX_PARAMS)))) == MAX_PARAMS
    with pytest.raises(SipError):
        parse_params("".join(form.format(i) for i in range(MAX_PARAMS + 2)))


@pytest.mark.parametrize("text", [";a", ';video="TRUE";b=TRUE', ';+sip.instance="<urn:uuid:1>";+g.x="a"', ';a=""'])
def test_format_params_quotes_what_wants_quotes(text: str) -> None:
    assert format_params(parse_params(text)) == text


def test_format_params_quotes_what_needs_quotes() -> None:
    assert format_params({"a": "x y", "b": None, "c": "", "d": "e"}) == ';a="x y";b;c="";d=e'


def test_values_are_plain_text_that_any_encoder_takes() -> None:
    params = parse_params(';methods="INVITE,ACK";x="y"; z = "1"')
    assert [type(value) for value in params.values()] == [str, str, str]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("0068", 68), ("2147483648", 2**31), ("2147483649", 2**32 - 1), ("9" * 5000, 2**32 - 1), ("0" * 20, 0)],
)
def test_delta_seconds_are_clamped(text: str, expected: int) -> None:
    assert parse_delta_seconds(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1.5", " 1", "٣", "0x1"])
def test_delta_seconds_refuse(text: str) -> None:
    with pytest.raises(SipError):
        parse_delta_seconds(text)


def test_numbers_have_a_bound() -> None:
    assert parse_number("000000000000255", below=256) == 255
    assert parse_number("0" * 12, below=256) == 0
    for text in ("256", "9" * 5000, "", "1e3"):
        with pytest.raises(SipError):
            parse_number(text, below=256)


@pytest.mark.parametrize(("text", "expected"), [("0", 0.0), ("1", 1.0), ("0.", 0.0), ("0.333", 0.333), ("1.000", 1.0)])
def test_q(text: str, expected: float) -> None:
    assert parse_q(text) == expected


@pytest.mark.parametrize("text", ["", "2", "1.001", "0.1234", "-0.1", "0.٣", ".5", "nan", "1e0"])
def test_q_refuses(text: str) -> None:
    with pytest.raises(SipError):
        parse_q(text)


def test_auth_params() -> None:
    assert parse_auth_params('a="x,y" , B=2,', 0) == {"a": "x,y", "b": "2"}
    for text in (",", "a", "a=1 b=2", "a=1,A=2", 'a="', ",".join(f"p{i}=1" for i in range(MAX_PARAMS + 1))):
        with pytest.raises(SipError):
            parse_auth_params(text, 0)
