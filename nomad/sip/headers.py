"""Typed values of single headers: addresses, Via, CSeq, digest challenges and credentials (RFC 3261 20, 25.1).

Each has `parse`, which raises `SipError` only, and `str()`, which writes it back. Does not know messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple, Self

from nomad.sip.errors import SipError
from nomad.sip.grammar import (
    QUOTED,
    TOKEN,
    format_params,
    format_value,
    is_token,
    parse_auth_params,
    parse_number,
    quote,
    skip_blanks,
    unquote,
)
from nomad.sip.grammar import parse_delta_seconds as parse_delta_seconds
from nomad.sip.grammar import parse_params as parse_params
from nomad.sip.grammar import parse_q as parse_q
from nomad.sip.grammar import split_elements as split_elements
from nomad.sip.uri import Uri, ipv6_reference, parse_port

_ADDRESS_MARK = re.compile(r'[<;"]')
_VIA = re.compile(
    r"[Ss][Ii][Pp][ \t]*+/[ \t]*+[0-9]++\.[0-9]++[ \t]*+/[ \t]*+([A-Za-z0-9\-.!%*_+`'~]++)[ \t]++"
    r"([A-Za-z0-9.\-_]++|\[[0-9A-Fa-f:.]++\])(?:[ \t]*+:[ \t]*+([0-9]{1,5}+))?[ \t]*+(;.*+)?",
    re.DOTALL,
)
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]++=*+")


MAX_REMEMBERED = 4096  # parsed values of each kind: From, To and Via stand in many messages of a dialog
MAX_REMEMBERED_CHARS = 200


class NameAddr:
    """`"Display" <uri>;params` or `uri;params` (RFC 3261 20.10). Never changed after it was made, nor its `params`.

    The URI is parsed when it is first asked for.
    """

    __slots__ = ("_uri", "display", "params", "uri_text")

    def __init__(self, uri_text: str, display: str = "", params: dict[str, str | None] | None = None) -> None:
        """Takes `params` over."""
        self.uri_text = uri_text
        self.display = display
        self.params: dict[str, str | None] = {} if params is None else params
        self._uri: Uri | None = None

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Read one address; "*" is none. The same text gives the same object while it is remembered."""
        return _remembered_address(text) if len(text) <= MAX_REMEMBERED_CHARS else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> NameAddr:
        mark = _ADDRESS_MARK.search(text)
        if mark is None or mark.group() == ";":
            return cls._parse_bare(text, len(text) if mark is None else mark.start())
        start = mark.start()
        display = text[:start].strip(" \t")
        if mark.group() == '"':
            quoted = QUOTED.match(text, start)
            if quoted is None or display:
                raise SipError("address", "malformed display name")
            display = unquote(quoted.group())
            start = skip_blanks(text, quoted.end())
            if text[start : start + 1] != "<":
                raise SipError("address", "display name without an address")
        end = text.find(">", start)
        uri_text = text[start + 1 : end]
        if end < 0 or not uri_text:
            raise SipError("address", "malformed address")
        return cls(uri_text, display, parse_params(text[end + 1 :]))

    @classmethod
    def _parse_bare(cls, text: str, end: int) -> NameAddr:
        uri_text = text[:end].strip(" \t")
        # A URI with a comma, question mark or semicolon must stand in angle brackets (RFC 3261 20.10).
        if not uri_text or "?" in uri_text or "," in uri_text or " " in uri_text or ">" in uri_text:
            raise SipError("address", "malformed address")
        return cls(uri_text, "", parse_params(text[end:]))

    @property
    def uri(self) -> Uri:
        """The URI, parsed."""
        if self._uri is None:
            self._uri = Uri.parse(self.uri_text)
        return self._uri

    @property
    def tag(self) -> str:
        """The tag parameter, "" when there is none."""
        return self.params.get("tag") or ""

    def __str__(self) -> str:
        display = f"{quote(self.display)} " if self.display else ""
        return f"{display}<{self.uri_text}>{format_params(self.params)}"

    def __repr__(self) -> str:
        return f"NameAddr({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameAddr) and (self.uri_text, self.display, self.params) == (
            other.uri_text,
            other.display,
            other.params,
        )

    def __hash__(self) -> int:
        return hash((self.uri_text, self.display))


class Via:
    """One hop that a request took (RFC 3261 20.42). `host` stands as received; compare with `sent_by`.

    Never changed after it was made, nor its `params`.
    """

    __slots__ = ("host", "params", "port", "transport")

    def __init__(
        self, transport: str, host: str, port: int | None = None, params: dict[str, str | None] | None = None
    ) -> None:
        """Takes `params` over."""
        self.transport = transport
        self.host = host
        self.port = port
        self.params: dict[str, str | None] = {} if params is None else params

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read one Via element. The same text gives the same object while it is remembered."""
        return _remembered_via(text) if len(text) <= MAX_REMEMBERED_CHARS else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> Via:
        match = _VIA.fullmatch(text)
        if match is None:
            raise SipError("via", "malformed Via")
        transport, host, port, params = match.groups()
        if host[0] == "[":
            ipv6_reference(host)
        number = None if port is None else parse_port(port)
        return cls(transport.upper(), host, number, None if params is None else parse_params(params))

    @property
    def branch(self) -> str:
        """The branch parameter, "" when there is none."""
        return self.params.get("branch") or ""

    @property
    def received(self) -> str:
        """The address that the request came from, without brackets (RFC 5118 4.5), "" when not noted."""
        value = self.params.get("received") or ""
        return value[1:-1] if value.startswith("[") and value.endswith("]") else value

    @property
    def rport(self) -> int | None:
        """The port that the request came from (RFC 3581), None when not noted; `"rport" in params` tells if asked."""
        value = self.params.get("rport")
        return parse_number(value, below=65536) if value else None

    @property
    def sent_by(self) -> str:
        """`host:port` or `host`, in lower case."""
        host = self.host.lower()
        return host if self.port is None else f"{host}:{self.port}"

    def with_param(self, name: str, value: str | None) -> Via:
        """A copy with one parameter set."""
        return Via(self.transport, self.host, self.port, {**self.params, name: value})

    def __str__(self) -> str:
        host = self.host if self.port is None else f"{self.host}:{self.port}"
        return f"SIP/2.0/{self.transport} {host}{format_params(self.params)}"

    def __repr__(self) -> str:
        return f"Via({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Via) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash((self.transport, self.host, self.port, self.branch))


_remembered_address: Final = lru_cache(maxsize=MAX_REMEMBERED)(NameAddr._parse)
_remembered_via: Final = lru_cache(maxsize=MAX_REMEMBERED)(Via._parse)


class CSeq(NamedTuple):
    """Sequence number and method of a request (RFC 3261 20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Read `number method`; the number is below 2**31 (RFC 3261 8.1.1.5)."""
        number, _, method = text.replace("\t", " ").partition(" ")
        method = method.strip(" ")
        try:
            value = parse_number(number, below=2**31)
        except SipError as error:
            raise SipError("cseq", "malformed CSeq number") from error
        if not is_token(method):
            raise SipError("cseq", "malformed CSeq method")
        return cls(value, method)

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


# What is written without quotes (RFC 3261 25.1: dig-resp, digest-cln; RFC 7616 3.3 and 3.4).
_BARE_IN_CHALLENGE = frozenset({"algorithm", "stale", "charset", "userhash"})
_BARE_IN_CREDENTIALS = frozenset({"algorithm", "qop", "nc", "charset", "userhash"})


class _AuthValue:
    """What challenges and credentials share: a scheme with parameters, or with one opaque token."""

    __slots__ = ("params", "scheme", "token")
    _bare: frozenset[str] = frozenset()

    def __init__(self, scheme: str, params: Mapping[str, str] | None = None, *, token: str = "") -> None:
        self.scheme = scheme
        self.params: dict[str, str] = {} if params is None else dict(params)
        self.token = token

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `scheme name=value, name="value"` or `scheme token68` (RFC 7235 2.1)."""
        match = TOKEN.match(text)
        if match is None:
            raise SipError("auth", "authentication scheme expected")
        position = skip_blanks(text, match.end())
        if position == match.end():
            if position < len(text):
                raise SipError("auth", "malformed authentication scheme")
            return cls(match.group())
        token = _TOKEN68.fullmatch(text[position:].rstrip(" \t"))
        if token is not None:
            return cls(match.group(), token=token.group())
        return cls(match.group(), parse_auth_params(text, position))

    def get(self, name: str) -> str:
        """A parameter, "" when absent."""
        return self.params.get(name, "")

    def __str__(self) -> str:
        if self.token:
            return f"{self.scheme} {self.token}"
        bare = self._bare
        pairs = [
            f"{name}={format_value(name, value) if name in bare else quote(value)}"
            for name, value in self.params.items()
        ]
        return f"{self.scheme} {', '.join(pairs)}" if pairs else self.scheme

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.scheme!r})"  # the parameters are secrets

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (self.scheme, self.params, self.token) == (
            other.scheme,
            other.params,
            other.token,
        )

    def __hash__(self) -> int:
        return hash((self.scheme, self.token))


class Challenge(_AuthValue):
    """WWW-Authenticate or Proxy-Authenticate (RFC 3261 20.44)."""

    __slots__ = ()
    _bare = _BARE_IN_CHALLENGE


class Credentials(_AuthValue):
    """Authorization or Proxy-Authorization (RFC 3261 20.7)."""

    __slots__ = ()
    _bare = _BARE_IN_CREDENTIALS
