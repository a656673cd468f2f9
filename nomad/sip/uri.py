"""SIP, SIPS and tel URIs (RFC 3261 19.1, RFC 3966); every other scheme is kept as opaque text.

Does not resolve anything and does not know which hosts are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from nomad.sip.errors import SipError
from nomad.sip.grammar import MAX_PARAMS

# Each group's repeat is possessive, and the user part must be followed by ":" or "@": two passes at most.
_SIP = re.compile(
    r"(?:((?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]++|%[0-9A-Fa-f]{2})+)"
    r"(?::((?:[A-Za-z0-9\-_.!~*'()&=+$,]++|%[0-9A-Fa-f]{2})*))?@)?"
    r"([A-Za-z0-9.\-_]++|\[[0-9A-Fa-f:.]++\])"
    r"(?::([0-9]{1,5}+))?"
    r"(?:;((?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$=;]++|%[0-9A-Fa-f]{2})+))?"
    r"(?:\?((?:[A-Za-z0-9\-_.!~*'()\[\]/?:+$=&]++|%[0-9A-Fa-f]{2})+))?"
)
_TEL = re.compile(
    r"(\+[0-9\-.()]++|[0-9A-Fa-f*#\-.()]++)(?:;((?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$=;]++|%[0-9A-Fa-f]{2})+))?"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*+")
_OPAQUE = re.compile(r"[!#-;=?-Z\[\]_a-z~\\^`{|}]++")
_ESCAPE_RUN = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_USER_UNSAFE = re.compile(r"[^A-Za-z0-9\-_.!~*'()&=+$,;?/]")
_PARAM_UNSAFE = re.compile(r"[^A-Za-z0-9\-_.!~*'()\[\]/:&+$]")
_HOST = re.compile(r"[A-Za-z0-9.\-_]++|\[[0-9A-Fa-f:.]++\]")

_THREE_COLONS = re.compile(r":::(?=[0-9]{1,3}\.)")

_RESERVED = ";/?:@&=+$,"
# Parameters that are never ignored when only one of two URIs has them (RFC 3261 19.1.4 and its examples).
_COMPARED_PARAMS = ("user", "ttl", "method", "maddr", "transport")

_NO_PARAMS: Mapping[str, str | None] = {}

MAX_REMEMBERED = 4096  # parsed URIs: a request names its parties several times, and they come again
MAX_REMEMBERED_CHARS = 200


class Uri:
    """A URI, taken apart. Never changed after it was made: `replace` gives an altered one.

    `user` and `password` keep their escapes, `params` have none. `host` is in lower case, an IPv6 address in brackets.
    `headers` is the raw text after "?". For an unknown scheme only `scheme` and `opaque` are set; a tel URI has its
    number in `user`.
    """

    __slots__ = ("headers", "host", "opaque", "params", "password", "port", "scheme", "user")

    def __init__(
        self,
        scheme: str,
        user: str,
        host: str,
        port: int | None = None,
        params: dict[str, str | None] | None = None,
        headers: str = "",
        *,
        password: str | None = None,
        opaque: str = "",
    ) -> None:
        self.scheme: Final = scheme
        self.user: Final = user
        self.password: Final = password
        self.host: Final = host
        self.port: Final = port
        self.params: Final[dict[str, str | None]] = {} if params is None else params
        self.headers: Final = headers
        self.opaque: Final = opaque

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read a URI; the text must be nothing else. The same text gives the same object while it is remembered."""
        return _remembered(text) if len(text) <= MAX_REMEMBERED_CHARS else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> Uri:
        scheme, colon, rest = text.partition(":")
        if scheme not in ("sip", "sips"):
            if not colon or _SCHEME.fullmatch(scheme) is None:
                raise SipError("uri", "URI without a scheme")
            scheme = scheme.lower()
            if scheme == "tel":
                return _parse_tel(rest)
            if scheme not in ("sip", "sips"):
                if _OPAQUE.fullmatch(rest) is None:
                    raise SipError("uri", "URI with characters that must be escaped")
                return Uri(scheme, "", "", opaque=rest)
        match = _SIP.fullmatch(rest)
        if match is None:
            raise SipError("uri", "malformed SIP URI")
        user, password, host, port, params, headers = match.groups()
        return Uri(
            scheme,
            user or "",
            ipv6_reference(host) if host[0] == "[" else host.lower(),
            None if port is None else parse_port(port),
            {} if params is None else _parse_uri_params(params),
            headers or "",
            password=password,
        )

    @classmethod
    def build(
        cls,
        user: str,
        host: str,
        port: int | None = None,
        params: Mapping[str, str | None] = _NO_PARAMS,
        scheme: str = "sip",
    ) -> Uri:
        """Make a URI from unescaped parts; a bare IPv6 address gets its brackets."""
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        if _HOST.fullmatch(host) is None:
            raise SipError("uri", "malformed host")
        host = ipv6_reference(host) if host[0] == "[" else host.lower()
        return cls(scheme, escape_user(user), host, port, dict(params))

    def with_params(self, params: Mapping[str, str | None]) -> Uri:
        """A copy with these parameters and without headers."""
        return Uri(
            self.scheme, self.user, self.host, self.port, dict(params), password=self.password, opaque=self.opaque
        )

    @property
    def text(self) -> str:
        """The URI as it is written."""
        if self.opaque:
            return f"{self.scheme}:{self.opaque}"
        text = f"{self.scheme}:"
        if self.host:
            if self.user:
                text += self.user if self.password is None else f"{self.user}:{self.password}"
                text += "@"
            text += self.host if self.port is None else f"{self.host}:{self.port}"
        else:
            text += self.user
        for name, value in self.params.items():
            text += f";{_escape_param(name)}" if value is None else f";{_escape_param(name)}={_escape_param(value)}"
        return f"{text}?{self.headers}" if self.headers else text

    @property
    def unescaped_user(self) -> str:
        """The user part with its escapes resolved; may hold any character, NUL and line ends too."""
        return unescape(self.user) if "%" in self.user else self.user

    @property
    def address(self) -> str:
        """`user@host` with the user unescaped, for lookups; only the host when there is no user."""
        return f"{self.unescaped_user}@{self.host}" if self.user else self.host

    @property
    def transport(self) -> str:
        """The transport parameter in lower case, "" when absent."""
        return (self.params.get("transport") or "").lower()

    @property
    def lr(self) -> bool:
        """Whether this is the URI of a loose router (RFC 3261 19.1.1)."""
        return "lr" in self.params

    @property
    def maddr(self) -> str:
        """The maddr parameter in lower case, "" when absent."""
        return (self.params.get("maddr") or "").lower()

    def equivalent(self, other: Uri) -> bool:
        """Whether both mean the same by the rules of RFC 3261 19.1.4 (not transitive)."""
        if self.scheme != other.scheme or self.port != other.port or self.opaque != other.opaque:
            return False
        if self.scheme == "tel":
            return _same_number(self.user, other.user) and _same_params(self.params, other.params, strict=True)
        return (
            _same_host(self.host, other.host)
            and _plain(self.user) == _plain(other.user)
            and _plain(self.password) == _plain(other.password)
            and _same_params(self.params, other.params, strict=False)
            and _header_set(self.headers) == _header_set(other.headers)
        )

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Uri({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Uri) and self.text == other.text

    def __hash__(self) -> int:
        return hash((self.scheme, self.user, self.host, self.port))


_remembered: Final = lru_cache(maxsize=MAX_REMEMBERED)(Uri._parse)


def parse_port(text: str) -> int:
    """A port number of one to five digits."""
    port = int(text)
    if not 0 < port < 65536:
        raise SipError("uri", "port out of range")
    return port


def ipv6_reference(text: str) -> str:
    """An IPv6 reference in lower case, brackets included, checked (RFC 3986 3.2.2).

    The three colons that RFC 3261's grammar allows before an IPv4 part are read as two (RFC 5118 4.10).
    """
    if ":::" in text:
        text = _THREE_COLONS.sub("::", text, count=1)
    try:
        IPv6Address(text[1:-1])
    except AddressValueError:
        raise SipError("uri", "malformed IPv6 address") from None
    return text.lower()


def unescape(text: str) -> str:
    """Resolve %HH escapes; bytes that are not UTF-8 are kept as surrogate escapes, as in messages."""
    return _ESCAPE_RUN.sub(
        lambda run: bytes.fromhex(run.group().replace("%", "")).decode("utf-8", "surrogateescape"), text
    )


def escape_user(text: str) -> str:
    """Escape what may not stand in a user part (RFC 3261 25.1, user)."""
    return _USER_UNSAFE.sub(_escape_char, text)


def _escape_char(match: re.Match[str]) -> str:
    return "".join([f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogateescape")])


def _escape_param(text: str) -> str:
    return _PARAM_UNSAFE.sub(_escape_char, text)


def _parse_uri_params(text: str) -> dict[str, str | None]:
    params: dict[str, str | None] = {}
    parts = text.split(";")
    if len(parts) > MAX_PARAMS:
        raise SipError("uri", "too many URI parameters")
    for part in parts:
        name, equals, value = part.partition("=")
        if not name or "=" in value:
            raise SipError("uri", "malformed URI parameter")
        if "%" in part:
            name, value = unescape(name), unescape(value)
        params[name.lower()] = value if equals else None
    if len(params) != len(parts):
        raise SipError("uri", "URI parameter is repeated")  # RFC 3261 19.1.1
    return params


def _parse_tel(rest: str) -> Uri:
    match = _TEL.fullmatch(rest)
    if match is None:
        raise SipError("uri", "malformed tel URI")
    number, params = match.groups()
    if not any(digit in "0123456789*#abcdefABCDEF" for digit in number):
        raise SipError("uri", "tel URI without a digit")
    return Uri("tel", number, "", None, {} if params is None else _parse_uri_params(params))


def _plain(text: str | None) -> str | None:
    """Text in which only escapes of reserved characters are left, for comparing (RFC 3261 19.1.4)."""
    if text is None or "%" not in text:
        return text
    return _ESCAPE.sub(_resolve_unreserved, text)


def _resolve_unreserved(match: re.Match[str]) -> str:
    code = int(match.group(1), 16)
    char = chr(code)
    return char if 32 < code < 127 and char not in _RESERVED and char != "%" else match.group().upper()


def _same_host(one: str, other: str) -> bool:
    if one == other or not (one.startswith("[") and other.startswith("[")):
        return one == other
    return IPv6Address(one[1:-1]) == IPv6Address(other[1:-1])


def _same_params(one: Mapping[str, str | None], other: Mapping[str, str | None], *, strict: bool) -> bool:
    for name in one.keys() | other.keys():
        if name in one and name in other:
            if (one[name] or "").lower() != (other[name] or "").lower():
                return False
        elif strict or name in _COMPARED_PARAMS:
            return False
    return True


def _header_set(headers: str) -> list[str]:
    return sorted([(_plain(part) or "").lower() for part in headers.split("&")]) if headers else []


def _same_number(one: str, other: str) -> bool:
    return _digits_of(one) == _digits_of(other)


def _digits_of(number: str) -> str:
    """The number without visual separators (RFC 3966 4)."""
    return "".join([char for char in number.lower() if char not in "-.()"])
