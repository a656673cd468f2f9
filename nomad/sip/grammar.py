"""Scanners for what SIP headers are made of (RFC 3261 25.1): tokens, quoted strings, parameters, lists, numbers.

Every scanner moves forward only; repeats in the patterns are possessive, so that no input is ever read twice.
Knows no header by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nomad.sip.errors import SipError

MAX_PARAMS = 64
MAX_ELEMENTS = 70
MAX_DELTA_SECONDS = 2**32 - 1

TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]++")
QUOTED = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*"', re.DOTALL)

# Values that stand in quotes even when they are tokens: RFC 3840 9 (all names that begin with "+", too), RFC 3326 2.
_QUOTED_NAMES = frozenset(
    {"audio", "automata", "class", "duplex", "data", "control", "mobility", "description", "events", "priority"}
    | {"methods", "schemes", "application", "video", "language", "type", "isfocus", "actor", "text", "extensions"}
)

# Wider than gen-value (RFC 3261 25.1) by characters that phones put into tags and that separate nothing.
_VALUE = r"[A-Za-z0-9\-.!%*_+`'~\[\]:/@?=&$()\u0080-\U0010ffff]++"
_PLAIN_VALUE = re.compile(_VALUE)
_PLAIN_PARAMS = re.compile(r"(?:;[A-Za-z0-9\-.!%*_+`'~]++(?:=" + _VALUE + r")?)*")
_NAME_AND_VALUE = (
    r"([A-Za-z0-9\-.!%*_+`'~]++)[ \t]*+(?:=[ \t]*+(?:(\"[^\"\\]*+(?:\\.[^\"\\]*+)*\")|(" + _VALUE + r"))[ \t]*+)"
)
_PARAM = re.compile(r";[ \t]*+" + _NAME_AND_VALUE + r"?(?=;|\Z)", re.DOTALL)
_AUTH_PARAM = re.compile(_NAME_AND_VALUE + r"(?:,[ \t]*+|\Z)", re.DOTALL)
_LIST_MARK = re.compile(r'[",<]')
_ESCAPED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_NEEDS_ESCAPE = re.compile(r'(["\\])')
_NOT_BLANK = re.compile(r"[^ \t]")


def is_token(text: str) -> bool:
    """Whether the text is one token (RFC 3261 25.1)."""
    return TOKEN.fullmatch(text) is not None


def is_digits(text: str) -> bool:
    """Whether the text is one or more ASCII digits."""
    return text.isascii() and text.isdigit()


def quote(text: str) -> str:
    """The text as a quoted-string."""
    if '"' in text or "\\" in text:
        text = _NEEDS_ESCAPE.sub(r"\\\1", text)
    return f'"{text}"'


def unquote(text: str) -> str:
    """The content of a quoted-string that was scanned before: quotes removed, quoted pairs resolved."""
    inner = text[1:-1]
    return _ESCAPED_PAIR.sub(r"\1", inner) if "\\" in inner else inner


def quoted_end(text: str, start: int) -> int:
    """The position behind the quoted-string that opens at `start`."""
    match = QUOTED.match(text, start)
    if match is None:
        raise SipError("quoted-string", "quoted string is not closed")
    return match.end()


def skip_blanks(text: str, start: int) -> int:
    """The position of the first character from `start` on that is neither space nor tab."""
    match = _NOT_BLANK.search(text, start)
    return match.start() if match else len(text)


def unfold(value: str) -> str:
    """A header value with its folded lines joined by one space each, and without blanks around (RFC 3261 7.3.1)."""
    if "\r" not in value and "\n" not in value:
        return value.strip(" \t")
    parts = [part.strip(" \t") for part in value.split("\r\n")]
    return " ".join([part for part in parts if part])


def first_comma(text: str) -> int:
    """The position of the first comma outside quotes and angle brackets, -1 when there is none."""
    position = 0
    while True:
        match = _LIST_MARK.search(text, position)
        if match is None:
            return -1
        position = match.start()
        mark = text[position]
        if mark == ",":
            return position
        if mark == '"':
            position = quoted_end(text, position)
        else:
            position = text.find(">", position) + 1
            if not position:
                raise SipError("address", "angle bracket is not closed")


def split_elements(text: str) -> list[str]:
    """The elements of a comma-separated list, split outside quotes and angle brackets; empty ones are left out."""
    if "," not in text:
        text = text.strip(" \t")
        return [text] if text else []
    if '"' not in text and "<" not in text:
        if text.count(",") > 2 * MAX_ELEMENTS:
            raise SipError("list", "too many list elements")
        return _bounded([part.strip(" \t") for part in text.split(",")])
    parts: list[str] = []
    position = start = 0
    while True:
        match = _LIST_MARK.search(text, position)
        if match is None:
            parts.append(text[start:].strip(" \t"))
            return _bounded(parts)
        position = match.start()
        mark = text[position]
        if mark == ",":
            parts.append(text[start:position].strip(" \t"))
            position = start = position + 1
            if len(parts) > 2 * MAX_ELEMENTS:
                raise SipError("list", "too many list elements")
        elif mark == '"':
            position = quoted_end(text, position)
        else:
            position = text.find(">", position) + 1
            if not position:
                raise SipError("address", "angle bracket is not closed")


def _bounded(parts: list[str]) -> list[str]:
    parts = [part for part in parts if part]
    if len(parts) > MAX_ELEMENTS:
        raise SipError("list", "too many list elements")
    return parts


def parse_params(text: str) -> dict[str, str | None]:
    """The parameters of `;name=value;name;name="value"`, names in lower case, order kept (RFC 3261 7.3.1)."""
    if not text:
        return {}
    if _PLAIN_PARAMS.fullmatch(text) is None:
        return _scan_params(text)
    params: dict[str, str | None] = {}
    parts = text.split(";")
    for part in parts:
        if part:
            name, equals, value = part.partition("=")
            params[name.lower()] = value if equals else None
    _check_count(params, len(parts) - 1)
    return params


def _check_count(params: Mapping[str, str | None], count: int) -> None:
    if len(params) != count:
        raise SipError("parameter", "parameter is repeated")  # RFC 3261 7.3.1
    if count > MAX_PARAMS:
        raise SipError("parameter", "too many parameters")


def _scan_params(text: str) -> dict[str, str | None]:
    """As `parse_params`, for text with blanks or quotes."""
    params: dict[str, str | None] = {}
    count = 0
    position = skip_blanks(text, 0)
    end = len(text)
    while position < end:
        match = _PARAM.match(text, position)
        if match is None:
            raise SipError("parameter", "malformed parameter")
        name, quoted, value = match.groups()
        params[name.lower()] = value if quoted is None else unquote(quoted)
        position = match.end()
        count += 1
        if count > MAX_PARAMS:
            break
    _check_count(params, count)
    return params


def parse_auth_params(text: str, position: int) -> dict[str, str]:
    """Comma-separated `name=value` from a position on; a repeated name could mean two things, so it is refused."""
    params: dict[str, str] = {}
    end = len(text)
    while position < end:
        match = _AUTH_PARAM.match(text, position)
        if match is None:
            raise SipError("auth", "malformed authentication parameter")
        name, quoted, value = match.groups()
        name = name.lower()
        if name in params or len(params) == MAX_PARAMS:
            raise SipError("auth", "authentication parameter repeated, or too many")
        params[name] = value if quoted is None else unquote(quoted)
        position = match.end()
    return params


def format_value(name: str, value: str) -> str:
    """A parameter value as it is written: in quotes when it is no plain value, or when that name wants them."""
    if name[:1] == "+" or name in _QUOTED_NAMES or _PLAIN_VALUE.fullmatch(value) is None:
        return quote(value)
    return value


def format_params(params: Mapping[str, str | None]) -> str:
    """The inverse of `parse_params`."""
    return "".join(
        [f";{name}" if value is None else f";{name}={format_value(name, value)}" for name, value in params.items()]
    )


def parse_delta_seconds(text: str) -> int:
    """Seconds; more than 2**31 become 2**32-1, however many digits they have (RFC 4475 3.1.2.4)."""
    if not is_digits(text):
        raise SipError("number", "seconds are not a number")
    if len(text) > 10:
        text = text.lstrip("0") or "0"
        if len(text) > 10:
            return MAX_DELTA_SECONDS
    seconds = int(text)
    return seconds if seconds <= 2**31 else MAX_DELTA_SECONDS


def parse_number(text: str, *, below: int) -> int:
    """A number of at most ten significant digits, smaller than `below`."""
    if not is_digits(text):
        raise SipError("number", "number expected")
    if len(text) > 10:
        text = text.lstrip("0") or "0"
    if len(text) > 10 or int(text) >= below:
        raise SipError("number", "number is too large")
    return int(text)


def parse_q(text: str) -> float:
    """A preference between 0 and 1 with at most three decimals (RFC 3261 25.1, qvalue)."""
    whole, _, decimals = text.partition(".")
    if whole in ("0", "1") and len(decimals) <= 3 and (not decimals or is_digits(decimals)):
        value = float(text)
        if value <= 1.0:
            return value
    raise SipError("number", "q is not a number between 0 and 1")
