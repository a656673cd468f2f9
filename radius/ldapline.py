"""One bound LDAP connection on the event loop: many searches in flight, told apart by message id (RFC 4511 4.1.1.1).

Takes over a socket that is connected, secured and bound already, plain or TLS. Does not connect, and does not judge how
long an answer may take.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from radius.errors import PacketError
from radius.ldapwire import (
    FIRST_ID,
    LAST_ID,
    SIZE_LIMIT_EXCEEDED,
    SUCCESS,
    UNBIND,
    Found,
    message_id,
    message_length,
    take,
)

RECEIVE_BYTES = 65_536
Entries = list[dict[str, list[bytes]]]
LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class LdapLine:
    """A connection; once `closed` it stays so, and whoever waits on it has been told."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        name: str,
        loop: asyncio.AbstractEventLoop,
        on_closed: Callable[[LdapLine], object],
    ) -> None:
        """`name` is that of the server, for errors."""
        self.name = name
        self.closed = False
        self.heard_at = loop.time()
        self._loop = loop
        self._sock = sock
        self._on_closed = on_closed
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._last_id = FIRST_ID
        self._waiting: dict[int, tuple[asyncio.Future[Entries], Found]] = {}
        self._received = b""
        self._unsent = b""
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    @property
    def in_flight(self) -> int:
        """Searches that wait for their end."""
        return len(self._waiting)

    async def search(self, make: Callable[[int], bytes]) -> Entries:
        """Send the message that `make` builds for an id; what was found. Raises `PacketError`, also when closed."""
        if self.closed:
            raise PacketError("ldap", "the connection is closed")
        self._last_id = id = self._last_id + 1 if self._last_id < LAST_ID else FIRST_ID
        future: asyncio.Future[Entries] = self._loop.create_future()
        self._waiting[id] = future, Found()
        self._send(make(id))
        try:
            return await future
        finally:
            self._waiting.pop(id, None)

    def close(self, why: str = "was closed") -> None:
        """End the connection; whoever waits is told."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        if self._unsent:
            self._loop.remove_writer(self._sock.fileno())
        with contextlib.suppress(OSError, ValueError):
            self._sock.send(UNBIND)
        self._sock.close()
        for future, _ in tuple(self._waiting.values()):
            if not future.done():
                future.set_exception(PacketError("ldap", why))
        self._on_closed(self)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except LATER:
            sent = 0
        except OSError as error:
            self._fail(error)
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        data, self._unsent = self._unsent, b""
        self._loop.remove_writer(self._sock.fileno())
        self._send(data)

    def _readable(self) -> None:
        try:
            while not self.closed:
                data = self._sock.recv(RECEIVE_BYTES)
                if not data:
                    self.close("the server closed the connection")
                    return
                self._take(data)
                if not self._is_tls and len(data) < RECEIVE_BYTES:
                    return  # a socket would say so; TLS may hold more than the socket knows of
        except LATER:
            return
        except PacketError as error:
            self.close(error.text)
        except OSError as error:
            self._fail(error)

    def _take(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        buffer = self._received + data if self._received else data
        while (length := message_length(buffer)) and len(buffer) >= length:
            message, buffer = buffer[:length], buffer[length:]
            self._dispatch(message)
        self._received = buffer

    def _dispatch(self, message: bytes) -> None:
        id = message_id(message)
        if not id:
            raise PacketError("ldap", "the server ends the connection")
        if id not in self._waiting:
            return  # nobody waits for it any more
        future, found = self._waiting[id]
        take(message, id, found)
        if found.code is None or future.done():
            return
        if found.code in (SUCCESS, SIZE_LIMIT_EXCEEDED):
            future.set_result(found.entries)
        else:
            future.set_exception(PacketError("ldap", f"search failed with result {found.code} {found.text}"))

    def _fail(self, error: Exception) -> None:
        self.close(str(getattr(error, "strerror", "") or error or type(error).__name__))


def socket_of(connection: Any) -> socket.socket:
    """The socket of a connection of ldap3, which keeps no hold on it."""
    sock: socket.socket = connection.socket
    connection.socket = None
    return sock
