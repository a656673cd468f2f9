"""SIP requests and responses: from bytes, edited header by header, and back to bytes (RFC 3261 7).

A header line that nobody touched leaves as it came, byte for byte. Typed values are parsed on first use. Bodies are
opaque.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

from nomad.sip.errors import SipError
from nomad.sip.grammar import (
    first_comma,
    is_digits,
    is_token,
    parse_delta_seconds,
    parse_number,
)
from nomad.sip.headers import CSeq, NameAddr, Via
from nomad.sip.lines import HeaderLines, line_value, one_line
from nomad.sip.names import CANONICAL, canonical_name, wire_name
from nomad.sip.uri import Uri

MAX_MESSAGE_BYTES = 65535
MAX_HEAD_BYTES = 32768
MAX_HEADER_LINES = 256
MAX_SALVAGED_VIAS = 70  # as many as requests have hops (RFC 3261 8.1.1.6)
MAX_METHOD_CHARS = 64
MAX_CALL_ID_CHARS = 1024

MANDATORY: Final = ("via", "from", "to", "call-id", "cseq")
SINGLE: Final = ("call-id", "cseq", "from", "to", "max-forwards", "content-length")

_MANDATORY_SET: Final = frozenset(MANDATORY)
_KNOWN_METHODS: Final = frozenset(
    {"INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "SUBSCRIBE"}
    | {"NOTIFY", "PUBLISH", "INFO", "REFER", "MESSAGE", "UPDATE"}
)
_VERSION: Final = re.compile(r"SIP/[0-9]{1,5}\.[0-9]{1,5}")
_lookup_name: Final = CANONICAL.get

T = TypeVar("T")


class MalformedMessage(SipError):
    """Bytes that are no SIP message; `request` is what can be answered with `status`, None when nothing can."""

    def __init__(self, cause: SipError, request: Request | None) -> None:
        super().__init__(cause.reason, cause.text, header=cause.header, status=cause.status)
        self.request = request


class Message(HeaderLines):
    """What requests and responses share. Change one only while you build it; `copy` before you change another's."""

    __slots__ = ("body", "size")

    def __init__(self) -> None:
        super().__init__()
        self.body = b""
        self.size = 0  # bytes as received, 0 when built

    # -- typed values ----------------------------------------------------------------------------------------------

    @property
    def call_id(self) -> str:
        """Call-ID (RFC 3261 20.8)."""
        value: str | None = self._typed.get("call-id")
        return value if value is not None else self._parse_one("call-id", _parse_call_id)

    @property
    def cseq(self) -> CSeq:
        """CSeq (RFC 3261 20.16)."""
        value: CSeq | None = self._typed.get("cseq")
        return value if value is not None else self._parse_one("cseq", CSeq.parse)

    @property
    def via(self) -> Via:
        """The topmost Via (RFC 3261 20.42)."""
        value: Via | None = self._typed.get("via")
        return value if value is not None else self._parse_one("via", _parse_top_via)

    @property
    def vias(self) -> list[Via]:
        """Every Via, topmost first."""
        return self._parse_list("via", Via.parse)

    @property
    def from_(self) -> NameAddr:
        """From (RFC 3261 20.20)."""
        value: NameAddr | None = self._typed.get("from")
        return value if value is not None else self._parse_one("from", NameAddr.parse)

    @property
    def to(self) -> NameAddr:
        """To (RFC 3261 20.39)."""
        value: NameAddr | None = self._typed.get("to")
        return value if value is not None else self._parse_one("to", NameAddr.parse)

    @property
    def contacts(self) -> list[NameAddr]:
        """Every Contact (RFC 3261 20.10); none for the star."""
        return [] if self.contact_star else self._parse_list("contact", NameAddr.parse)

    @property
    def contact_star(self) -> bool:
        """Whether Contact is "*" and nothing else (RFC 3261 10.2.2)."""
        return "contact" in self._names and self.get_all("contact") == ["*"]

    @property
    def routes(self) -> list[NameAddr]:
        """Every Route (RFC 3261 20.34)."""
        return self._parse_list("route", _parse_route)

    @property
    def record_routes(self) -> list[NameAddr]:
        """Every Record-Route (RFC 3261 20.30)."""
        return self._parse_list("record-route", _parse_route)

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards, None when absent (RFC 3261 20.22)."""
        return self._parse_one("max-forwards", _parse_max_forwards) if "max-forwards" in self._names else None

    @property
    def expires(self) -> int | None:
        """Expires in seconds, None when absent (RFC 3261 20.19)."""
        return self._parse_one("expires", parse_delta_seconds) if "expires" in self._names else None

    @property
    def content_type(self) -> str:
        """The media type in lower case without its parameters, "" when absent (RFC 3261 20.15)."""
        value = self.get("content-type")
        return "" if value is None else value.partition(";")[0].strip(" \t").lower()

    def check(self) -> None:
        """Parse every header that has a typed value; raises `SipError` for the first bad one."""
        _ = (self.call_id, self.cseq, self.via, self.vias, self.max_forwards, self.expires)
        lists = (("contact", self.contacts), ("route", self.routes), ("record-route", self.record_routes))
        for name, addresses in (("from", [self.from_]), ("to", [self.to]), *lists):
            try:
                for address in addresses:
                    _ = address.uri
            except SipError as error:
                error.header = wire_name(name)
                raise

    def _parse_one(self, name: str, parse: Callable[[str], T]) -> T:
        value = self.get(name)
        if not value:
            raise SipError("missing-header", "mandatory header is missing or empty", header=wire_name(name))
        try:
            parsed = parse(value)
        except SipError as error:
            error.header = wire_name(name)
            raise
        self._typed[name] = parsed
        return parsed

    def _parse_list(self, name: str, parse: Callable[[str], T]) -> list[T]:
        held: list[T] | None = self._typed.get(name + "*")
        if held is None:
            try:
                held = [parse(element) for element in self.elements(name)]
            except SipError as error:
                error.header = wire_name(name)
                raise
            self._typed[name + "*"] = held
        return held

    # -- the whole -------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """The message as bytes. Puts Content-Length right first; it is always present (RFC 3261 18.3, 20.14)."""
        if self._length != len(self.body):
            self.set("content-length", str(len(self.body)))
            self._length = len(self.body)
        head = "\r\n".join(self._lines)
        return f"{self._start_line()}\r\n{head}\r\n\r\n".encode("utf-8", "surrogateescape") + self.body

    def _copy_to(self, other: Message) -> None:
        other.body = self.body
        other.size = self.size
        other._names = self._names.copy()
        other._lines = self._lines.copy()
        other._typed = self._typed.copy()
        other._length = self._length

    def _start_line(self) -> str:
        raise NotImplementedError


class Request(Message):
    """A request. `uri_text` is the Request-URI as received; change it with `set_uri`."""

    __slots__ = ("_uri", "method", "uri_text")

    def __init__(self, method: str, uri: str) -> None:
        super().__init__()
        self.method = one_line(method)
        self.uri_text = one_line(uri)
        self._uri: Uri | None = None

    @property
    def uri(self) -> Uri:
        """The Request-URI, parsed."""
        if self._uri is None:
            try:
                self._uri = Uri.parse(self.uri_text)
            except SipError as error:
                error.header = "Request-URI"
                raise
        return self._uri

    def set_uri(self, text: str) -> None:
        """Change the Request-URI."""
        self.uri_text = one_line(text)
        self._uri = None

    def check(self) -> None:
        """As for every message, and the Request-URI."""
        _ = self.uri
        super().check()

    def copy(self) -> Request:
        """An independent copy."""
        other = Request(self.method, self.uri_text)
        other._uri = self._uri
        self._copy_to(other)
        return other

    def _start_line(self) -> str:
        return f"{self.method} {self.uri_text} SIP/2.0"

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri_text}>"


class Response(Message):
    """A response."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str) -> None:
        super().__init__()
        self.status = status
        self.reason = one_line(reason)

    def copy(self) -> Response:
        """An independent copy."""
        other = Response(self.status, self.reason)
        self._copy_to(other)
        return other

    def _start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}>"


def parse_message(data: bytes) -> Request | Response:
    """Read one whole message. Raises `MalformedMessage`, a `SipError`."""
    try:
        return _parse(data)
    except SipError as error:
        raise MalformedMessage(error, salvage(data)) from None


def _parse(data: bytes) -> Request | Response:
    size = len(data)
    if size > MAX_MESSAGE_BYTES:
        raise SipError("too-large", "message is too large", status=513)
    if data[:2] == b"\r\n":
        data = data.lstrip(b"\r\n")  # RFC 3261 7.5
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise SipError("truncated", "end of the header is missing")
    if end > MAX_HEAD_BYTES:
        raise SipError("too-large", "header is too large", status=513)
    lines = data[:end].decode("utf-8", "surrogateescape").split("\r\n")
    if len(lines) > MAX_HEADER_LINES:
        raise SipError("too-large", "too many header lines", status=513)
    joined = "".join(lines)
    if "\n" in joined or "\r" in joined:
        raise SipError("line-end", "line end without its other half")
    message = _parse_start_line(lines[0])
    del lines[0]
    names: list[str] = []
    for line in lines:
        raw, colon, _ = line.partition(":")
        name = _lookup_name(raw)
        if name is None or not colon:
            names, lines = _name_lines(lines)
            break
        names.append(name)
    message.size = size
    message._names = names
    message._lines = lines
    _check_presence(names)
    _check_cseq(message)
    if "content-length" in names:
        length = _parse_length(line_value(lines[names.index("content-length")]), len(data) - end - 4)
        message._length = length
        message.body = data[end + 4 : end + 4 + length]  # what follows is dropped (RFC 3261 18.3)
    else:
        message.body = data[end + 4 :]
    return message


def _parse_start_line(line: str) -> Request | Response:
    parts = line.split(" ")
    if len(parts) == 3 and parts[2] == "SIP/2.0":
        method, uri, _ = parts
        if method not in _KNOWN_METHODS and not (is_token(method) and len(method) <= MAX_METHOD_CHARS):
            raise SipError("start-line", "malformed method")
        if ":" not in uri or uri[0] == "<":
            raise SipError("start-line", "malformed Request-URI")
        return Request(method, uri)
    if line[:8] == "SIP/2.0 ":
        status = parts[1]
        if len(status) != 3 or not is_digits(status) or not "100" <= status <= "699" or line[11:12] != " ":
            raise SipError("start-line", "malformed status line")
        return Response(int(status), line[12:])
    return _parse_odd_start(parts)


def _parse_odd_start(parts: list[str]) -> Request | Response:
    """A start line with another version, or with ours in another case (RFC 3261 7.1)."""
    index = 2 if len(parts) == 3 and parts[0][:4].upper() != "SIP/" else 0
    version = parts[index].upper()
    if _VERSION.fullmatch(version) is None:
        raise SipError("start-line", "malformed start line")
    if version != "SIP/2.0":
        raise SipError("version", "SIP version is not 2.0", status=505)
    if parts[index] == version:
        raise SipError("start-line", "malformed start line")
    parts[index] = version
    return _parse_start_line(" ".join(parts))


def _name_lines(lines: list[str]) -> tuple[list[str], list[str]]:
    """Canonical names and whole lines when some names are unusual or some lines folded (RFC 3261 7.3.1)."""
    names: list[str] = []
    whole: list[str] = []
    folds: list[str] = []
    for line in lines:
        if line[:1] in (" ", "\t"):
            if not whole:
                raise SipError("header", "folded line without a header")
            folds.append(line)
            continue
        if folds:
            whole[-1] = "\r\n".join([whole[-1], *folds])
            folds = []
        raw, colon, _ = line.partition(":")
        if not colon:
            raise SipError("header", "header line without a colon")
        names.append(_lookup_name(raw) or canonical_name(raw))
        whole.append(line)
    if folds:
        whole[-1] = "\r\n".join([whole[-1], *folds])
    return names, whole


def _check_presence(names: list[str]) -> None:
    present = set(names)
    if not present >= _MANDATORY_SET:
        missing = next(name for name in MANDATORY if name not in present)
        raise SipError("missing-header", "mandatory header is missing", header=wire_name(missing))
    if len(present) != len(names):
        for name in SINGLE:
            if names.count(name) > 1:
                raise SipError("duplicate-header", "header may stand only once", header=wire_name(name))


def _check_cseq(message: Request | Response) -> None:
    number, _, method = line_value(message._lines[message._names.index("cseq")]).partition(" ")
    if method in _KNOWN_METHODS and len(number) < 10 and number.isascii() and number.isdigit():
        cseq = message._typed["cseq"] = CSeq(int(number), method)
    else:
        cseq = message.cseq
    if isinstance(message, Request) and cseq.method != message.method:
        raise SipError("cseq", "CSeq method is not the method of the request", header="CSeq")  # RFC 3261 8.1.1.5


def _parse_length(value: str, held: int) -> int:
    if not is_digits(value):
        raise SipError("content-length", "Content-Length is not a number", header="Content-Length")
    length = int(value) if len(value) <= 10 else MAX_MESSAGE_BYTES + 1
    if length > held:
        raise SipError("content-length", "body is shorter than Content-Length", header="Content-Length")
    return length


def salvage(data: bytes) -> Request | None:
    """The request with the headers that a response needs, when they can be read (RFC 3261 8.2.6.2)."""
    data = data[: MAX_HEAD_BYTES + 4].lstrip(b"\r\n")
    end = data.find(b"\r\n\r\n")
    if end < 0 and len(data) > MAX_HEAD_BYTES:
        end = data.rfind(b"\r\n")  # of a head that is too large, the lines that are whole
    head = data[: end if end >= 0 else None]
    text = head.decode("utf-8", "surrogateescape")
    joined = text.replace("\r\n", "")
    if "\r" in joined or "\n" in joined:
        return None
    first, _, rest = text.partition("\r\n")
    method, _, uri = first.partition(" ")
    if not is_token(method) or len(method) > MAX_METHOD_CHARS:
        return None
    request = Request(method, uri.rpartition(" ")[0] or "sip:invalid")
    try:
        vias = 0
        for name, line in zip(*_name_lines(rest.split("\r\n", MAX_HEADER_LINES)[:MAX_HEADER_LINES]), strict=True):
            if name == "via":
                vias += 1
            if (name == "via" and vias <= MAX_SALVAGED_VIAS) or (name in _MANDATORY_SET and name not in request._names):
                request._names.append(name)
                request._lines.append(line)
        _check_presence(request._names)
        _ = request.via
    except SipError:
        return None
    request.size = len(data)
    return request


def _parse_call_id(value: str) -> str:
    if " " in value or "\t" in value or len(value) > MAX_CALL_ID_CHARS:
        raise SipError("call-id", "malformed Call-ID")
    return value


def _parse_top_via(value: str) -> Via:
    if "," in value:
        comma = first_comma(value)
        if comma >= 0:
            value = value[:comma].rstrip(" \t")
    return Via.parse(value)


def _parse_route(value: str) -> NameAddr:
    if value[-1:] != ">" and "<" not in value:
        raise SipError("address", "angle brackets expected")  # RFC 3261 20.34: name-addr only
    return NameAddr.parse(value)


def _parse_max_forwards(value: str) -> int:
    return parse_number(value, below=256)
