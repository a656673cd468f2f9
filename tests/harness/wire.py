"""A SIP peer that sends exactly what a test writes and shows exactly what comes back, over UDP or TCP.

Splits messages by hand, so that no parser of the edge judges itself. Blocks; one message at a time.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from tests.harness.people import ALGORITHMS, DOMAIN, Person
from tests.harness.ports import HOST

WAIT_S = 3.0
COPIED = ("via", "from", "to", "call-id", "cseq")  # from a request into its response (RFC 3261 8.2.6.2)
PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))')
SDP = "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came."""

    first: str
    headers: tuple[tuple[str, str], ...]
    body: str

    @property
    def status(self) -> int:
        """Of a response; 0 for a request."""
        return int(self.first.split(" ")[1]) if self.first.startswith("SIP/2.0 ") else 0

    @property
    def reason(self) -> str:
        """Of a response."""
        return self.first.split(" ", 2)[2]

    @property
    def method(self) -> str:
        """Of a request; "" for a response."""
        return "" if self.status else self.first.split(" ")[0]

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str:
        """The first value of a header, "" when there is none."""
        return next(iter(self.all(name)), "")


@dataclass(slots=True)
class Dialog:
    """A call as its caller knows it."""

    call_id: str
    local: str
    remote: str
    target: str
    routes: list[str] = field(default_factory=list)
    cseq: int = 1
    established_at: float = 0.0


class Wire:
    """One socket towards the edge; `person` is who logs in."""

    def __init__(
        self,
        target: tuple[str, int],
        person: Person | None = None,
        *,
        host: str = HOST,
        transport: str = "udp",
        login: str = "",
        password: str = "",
        algorithm: str = "MD5",
    ) -> None:
        """`algorithm` is that of the challenge that is answered."""
        self._algorithm = algorithm
        self._target = target
        self.transport = transport
        self.user = person.login if person else "alice"
        self._login = login or self.user
        self._password = password or (person.password if person else "")
        if transport == "udp":
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((host, 0))
        else:
            self._socket = socket.create_connection(target, WAIT_S, source_address=(host, 0))
        self.host, self.port = self._socket.getsockname()
        self._buffer = b""
        self._early: list[Message] = []  # came while something else was waited for

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @property
    def contact(self) -> str:
        """Where this peer is reached."""
        return f"<sip:{self.user}@{self.host}:{self.port};transport={self.transport}>"

    @property
    def address(self) -> str:
        """The person's address with angle brackets."""
        return f"<sip:{self.user}@{DOMAIN}>"

    # -- bytes and messages --------------------------------------------------------------------------------------

    def send(self, data: str | bytes) -> None:
        """Send as it is."""
        octets = data if isinstance(data, bytes) else data.encode()
        if self.transport == "udp":
            self._socket.sendto(octets, self._target)
        else:
            self._socket.sendall(octets)

    def receive(self, timeout_s: float = WAIT_S) -> Message | None:
        """The next message; None when there is none in time, or the connection was closed."""
        if self._early:
            return self._early.pop(0)
        if (whole := self._take()) is not None:
            return whole
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except (TimeoutError, ConnectionResetError):
                return None
            if self.transport == "udp":
                return _split(data)
            if not data:
                return None
            self._buffer += data
            if (message := self._take()) is not None:
                return message
        return None

    def is_closed(self, timeout_s: float = WAIT_S) -> bool:
        """Whether the other side ends the connection, whatever it still says before."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return False
            except ConnectionResetError:
                return True
            if not data:
                return True
            self._buffer += data
        return False

    def _take(self) -> Message | None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        message = _split(head + found)
        length = int(message.get("Content-Length") or 0)
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        return _split(head + found + rest[:length])

    # -- requests ------------------------------------------------------------------------------------------------

    def compose(
        self,
        method: str,
        uri: str,
        *,
        call_id: str = "",
        from_: str = "",
        to: str = "",
        cseq: int = 1,
        headers: Sequence[str] = (),
        body: str = "",
        branch: str = "",
    ) -> str:
        """A whole request; `headers` are lines."""
        local = from_ or f"{self.address};tag={secrets.token_hex(4)}"
        lines = [f"{method} {uri} SIP/2.0"]
        lines += [
            f"Via: SIP/2.0/{self.transport.upper()} {self.host}:{self.port};rport;branch={branch or new_branch()}"
        ]
        lines += ["Max-Forwards: 70", f"From: {local}", f"To: {to or f'<{uri}>'}"]
        lines += [
            f"Call-ID: {call_id or new_call_id()}",
            f"CSeq: {cseq} {method}",
            f"Contact: {self.contact}",
            *headers,
        ]
        if body:
            lines.append("Content-Type: application/sdp")
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])

    def offer(self) -> str:
        """An SDP body that says where nobody listens."""
        return SDP.format(host=self.host, port=self.port - self.port % 2)

    def ask(self, request: str, *, timeout_s: float = WAIT_S) -> Message:
        """Send a request and return its final response, acknowledged when it refuses an INVITE."""
        self.send(request)
        return self.final(request, timeout_s=timeout_s)

    def final(self, request: str, *, timeout_s: float = WAIT_S) -> Message:
        """The final response to a request that was sent."""
        sent = _split(request.encode())
        end = time.monotonic() + timeout_s
        others: list[Message] = []
        while (left := end - time.monotonic()) > 0 and (message := self.receive(left)) is not None:
            same = message.get("Call-ID") == sent.get("Call-ID") and message.get("CSeq") == sent.get("CSeq")
            if not same or not message.status:
                others.append(message)
            elif message.status >= 200:
                self._early += others
                if sent.method == "INVITE" and message.status >= 300:
                    self.send(_ack(request, message))
                return message
        raise TimeoutError(f"no final response to {sent.first!r} within {timeout_s:g} s")

    def authorize(self, request: str, challenge: Message, *, count: int = 1) -> str:
        """The request again with the credentials that the challenge asks for, and the next CSeq number."""
        sent = _split(request.encode())
        name, asking = ("Authorization", "WWW-Authenticate")
        if challenge.status == 407:
            name, asking = "Proxy-Authorization", "Proxy-Authenticate"
        line = next(each for each in challenge.all(asking) if f"algorithm={self._algorithm}," in each)
        asked = {key: quoted or plain for key, quoted, plain in PARAMETER.findall(line)}
        uri, cnonce, nc = sent.first.split(" ")[1], secrets.token_hex(4), f"{count:08x}"
        secret = self._hash(f"{self._login}:{asked['realm']}:{self._password}")
        response = self._hash(f"{secret}:{asked['nonce']}:{nc}:{cnonce}:auth:{self._hash(f'{sent.method}:{uri}')}")
        credentials = (
            f'{name}: Digest username="{self._login}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", '
            f'uri="{uri}", response="{response}", algorithm={self._algorithm}, qop=auth, nc={nc}, cnonce="{cnonce}"'
        )
        number = int(sent.get("CSeq").split(" ")[0]) + 1
        again = re.sub(r"branch=[^;\r]+", f"branch={new_branch()}", request, count=1)
        again = re.sub(r"\r\nCSeq: [^\r]*", f"\r\nCSeq: {number} {sent.method}", again, count=1)
        return again.replace("\r\nCall-ID:", f"\r\n{credentials}\r\nCall-ID:", 1)

    def _hash(self, text: str) -> str:
        return hashlib.new(ALGORITHMS[self._algorithm], text.encode()).hexdigest()

    def ask_as_person(self, request: str, *, timeout_s: float = WAIT_S) -> Message:
        """Send a request, answer its challenge and return what comes then."""
        challenge = self.ask(request, timeout_s=timeout_s)
        if challenge.status not in (401, 407):
            return challenge
        return self.ask(self.authorize(request, challenge), timeout_s=timeout_s)

    def register(self, *, expires_s: int = 600, timeout_s: float = WAIT_S) -> Message:
        """Register this socket."""
        request = self.compose("REGISTER", f"sip:{DOMAIN}", to=self.address, headers=[f"Expires: {expires_s}"])
        return self.ask_as_person(request, timeout_s=timeout_s)

    def call(self, number: str) -> Dialog:
        """Call a number, which must answer."""
        call_id, local = new_call_id(), f"{self.address};tag={secrets.token_hex(4)}"
        invite = self.compose("INVITE", f"sip:{number}@{DOMAIN}", call_id=call_id, from_=local, body=self.offer())
        answer = self.ask_as_person(invite, timeout_s=10.0)
        if answer.status != 200:
            raise AssertionError(f"call to {number}: {answer.first}")
        routes = [route.strip() for value in answer.all("Record-Route") for route in value.split(",")]
        contact = re.search(r"<([^>]*)>", answer.get("Contact"))
        assert contact is not None
        number_then = int(answer.get("CSeq").split(" ")[0])
        dialog = Dialog(call_id, local, answer.get("To"), contact[1], routes[::-1], number_then, time.time())
        self.send(self.within(dialog, "ACK", cseq=number_then))
        return dialog

    def within(self, dialog: Dialog, method: str, *, cseq: int = 0, body: str = "") -> str:
        """A request within a call."""
        if not cseq:
            dialog.cseq += 1
        return self.compose(
            method,
            dialog.target,
            call_id=dialog.call_id,
            from_=dialog.local,
            to=dialog.remote,
            cseq=cseq or dialog.cseq,
            headers=[f"Route: {route}" for route in dialog.routes],
            body=body,
        )

    def answer(self, request: Message, status: int) -> str:
        """A response to a request of the edge."""
        copied = [(name, value) for name, value in request.headers if name.lower() in COPIED]
        lines = [f"SIP/2.0 {status} Whatever", *(f"{name}: {value}" for name, value in copied)]
        return "\r\n".join([*lines, "Content-Length: 0", "", ""])

    def hang_up(self, dialog: Dialog) -> Message:
        """End a call."""
        return self.ask(self.within(dialog, "BYE"))


def new_call_id() -> str:
    """A Call-ID that no other test uses."""
    return f"wire-{next(_numbers)}-{secrets.token_hex(4)}"


def new_branch() -> str:
    """A Via branch."""
    return f"z9hG4bK{secrets.token_hex(8)}"


def _split(data: bytes) -> Message:
    head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Message(first, tuple((name.strip(), value.strip()) for name, _, value in pairs), body)


def _ack(invite: str, response: Message) -> str:
    """The ACK of a refusal: same Via, To of the response (RFC 3261 17.1.1.3)."""
    text = invite.partition("\r\n\r\n")[0].replace("INVITE ", "ACK ", 1)
    text = re.sub(r"\r\nTo: [^\r]*", lambda _: f"\r\nTo: {response.get('To')}", text, count=1)
    text = re.sub(r"\r\nCSeq: (\d+) INVITE", r"\r\nCSeq: \1 ACK", text, count=1)
    text = re.sub(r"\r\nContent-[^\r]*", "", text)
    return f"{text}\r\nContent-Length: 0\r\n\r\n"
