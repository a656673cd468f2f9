"""A RADIUS server that misbehaves, person by person: on a real socket, in a thread of its own."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final

from radius import packet as wire
from radius.attributes import encode
from radius.packet import Code, Packet
from tests.harness.ports import HOST

SECRET: Final = b"hostile-secret"
LATE_S = 5.0


class HostileRadius:
    """Accepts everybody; how the answer comes is set by user. Accounting is answered well."""

    secret = SECRET.decode()

    def __init__(self, behaviours: Mapping[str, str]) -> None:
        """By user: silent, wrong-secret, unsigned, truncated, garbage, elsewhere, late, every-second; others: well.

        The user "" is Status-Server.
        """
        self.asked: list[str] = []  # users, in the order of their requests
        self._behaviours = dict(behaviours)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._sockets = [_bound() for _ in range(3)]
        self._auth, self._acct, self._elsewhere = self._sockets
        self._threads = [
            threading.Thread(target=self._serve, args=(sock,), daemon=True) for sock in (self._auth, self._acct)
        ]
        self._numbers: dict[bytes, itertools.count[int]] = {}
        for thread in self._threads:
            thread.start()

    @property
    def auth(self) -> str:
        """host:port for Access-Requests."""
        return _name(self._auth)

    @property
    def acct(self) -> str:
        """host:port for Accounting-Requests."""
        return _name(self._acct)

    def improve(self, user: str) -> None:
        """Answer about this user well from now on."""
        self._behaviours.pop(user)

    def detail_records(self) -> list[dict[str, str]]:
        """Nothing is kept."""
        return []

    def stop(self) -> None:
        """Close."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _serve(self, sock: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                data, address = sock.recvfrom(4096)
            except TimeoutError:
                continue
            request = wire.decode(data)
            user = "" if request.code == Code.STATUS_SERVER else request.text(1)
            behaviour = "" if request.code == Code.ACCOUNTING_REQUEST else self._behaviours.get(user, "")
            with self._lock:
                self.asked.append(user)
                count = next(self._numbers.setdefault(data, itertools.count(1)))
            self._answer(sock, request, address, behaviour, count)

    def _answer(
        self, sock: socket.socket, request: Packet, address: tuple[str, int], behaviour: str, count: int
    ) -> None:
        code = Code.ACCOUNTING_RESPONSE if request.code == Code.ACCOUNTING_REQUEST else Code.ACCESS_ACCEPT
        body = encode([("User-Name", request.text(1))]) if request.code == Code.ACCESS_REQUEST else b""
        make: Callable[..., bytes] = lambda **how: wire.encode_reply(code, request, body, **{"secret": SECRET, **how})  # noqa: E731 - for one use each
        if behaviour == "silent" or (behaviour == "every-second" and count % 2):
            return
        if behaviour == "wrong-secret":
            sock.sendto(make(secret=b"another"), address)
        elif behaviour == "unsigned":
            sock.sendto(make(sign=False), address)
        elif behaviour == "truncated":
            sock.sendto(make()[:-5], address)
        elif behaviour == "garbage":
            sock.sendto(bytes((code, request.identifier)) + b"\xff" * 60, address)
        elif behaviour == "elsewhere":
            self._elsewhere.sendto(make(), address)
        elif behaviour == "late":
            threading.Thread(target=self._later, args=(sock, make(), address), daemon=True).start()
        else:
            sock.sendto(make(), address)

    def _later(self, sock: socket.socket, reply: bytes, address: tuple[str, int]) -> None:
        if not self._ended.wait(LATE_S):
            sock.sendto(reply, address)


def _bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.settimeout(0.2)
    return sock


def _name(sock: socket.socket) -> str:
    return f"{HOST}:{sock.getsockname()[1]}"
