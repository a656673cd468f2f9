"""Repeated datagrams: the same authenticated REGISTER again and again, as phones on a lossy line send it."""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import socket
import time

from bench import cpu, people
from tests.harness.ports import HOST

COPIES = 1000
PACE_S = 0.001
ANSWER_S = 2.0
_person = itertools.count()


class Phone:
    """One socket that registers one person."""

    def __init__(self, port: int, person: int, *, host: str = HOST, password: str = "") -> None:
        self._login, self._password = people.login(person), password or people.password(person)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.connect((HOST, port))
        self._socket.settimeout(ANSWER_S)
        self._call = secrets.token_hex(8)
        self._cseq = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def send(self, datagram: bytes) -> bytes:
        """Send, and return the first final answer; b"" when none comes."""
        try:
            self._socket.send(datagram)
            while True:
                answer = self._socket.recv(65535)
                if not answer.startswith(b"SIP/2.0 1"):
                    return answer
        except (TimeoutError, ConnectionError):
            return b""

    def register(self, authorization: str = "") -> bytes:
        """A REGISTER with a new CSeq."""
        self._cseq += 1
        me = "{}:{}".format(*self._socket.getsockname())
        lines = [
            f"REGISTER sip:{people.REALM} SIP/2.0",
            f"Via: SIP/2.0/UDP {me};branch=z9hG4bK{self._call}{self._cseq};rport",
            "Max-Forwards: 70",
            f"From: <sip:{self._login}@{people.REALM}>;tag={self._call}",
            f"To: <sip:{self._login}@{people.REALM}>",
            f"Call-ID: {self._call}",
            f"CSeq: {self._cseq} REGISTER",
            f"Contact: <sip:{self._login}@{me}>",
            "Expires: 3600",
            *([authorization] if authorization else []),
            "Content-Length: 0",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def answer(self, challenge: bytes) -> str:
        """The Authorization header for a 401 (RFC 2617, MD5, qop=auth)."""
        found = re.search(rb'nonce="([^"]*)"', challenge)
        if found is None:
            raise RuntimeError(f"no challenge, but {challenge[:100]!r}")
        nonce, cnonce, uri = found[1].decode(), secrets.token_hex(4), f"sip:{people.REALM}"
        first = _md5(f"{self._login}:{people.REALM}:{self._password}")
        response = _md5(f"{first}:{nonce}:00000001:{cnonce}:auth:{_md5(f'REGISTER:{uri}')}")
        return (
            f'Authorization: Digest username="{self._login}", realm="{people.REALM}", nonce="{nonce}", uri="{uri}", '
            f'response="{response}", algorithm=MD5, qop=auth, nc=00000001, cnonce="{cnonce}"'
        )


def cost_of_repetition(port: int, groups: cpu.Groups) -> float:
    """CPU microseconds of the whole chain for one repeated copy of a REGISTER that was answered before."""
    phone = Phone(port, next(_person))
    try:
        final = phone.register(phone.answer(phone.send(phone.register())))
        if not phone.send(final).startswith(b"SIP/2.0 200"):
            raise RuntimeError(f"the edge at port {port} does not register")
        before = sum(cpu.read_all(groups).values())
        for _ in range(COPIES):
            phone.send(final)
            time.sleep(PACE_S)
        return (sum(cpu.read_all(groups).values()) - before) / 1000 / COPIES
    finally:
        phone.close()


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
