"""OPTIONS at a steady pace from a thread of its own: whether an edge still serves what needs no RADIUS."""

from __future__ import annotations

import select
import socket
import threading
import time

from tests.harness.ports import HOST

RATE = 10.0
LAST_S = 5.0  # an answer may come this long after the last question


class Probe:
    """Each OPTIONS is sent once; `finish` gives sending time and seconds to the answer, None when none came."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._sent: dict[bytes, float] = {}
        self._answered: dict[bytes, float] = {}
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def finish(self) -> list[tuple[float, float | None]]:
        """Stop asking, wait for the last answers."""
        self._stop.set()
        self._thread.join()
        return [
            (sent, self._answered[key] - sent if key in self._answered else None) for key, sent in self._sent.items()
        ]

    def _work(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((HOST, 0))
            me = sock.getsockname()[1]
            due = time.time()
            end = 0.0
            while not end or time.time() < end:
                if not self._stop.is_set() and time.time() >= due:
                    self._ask(sock, me)
                    due += 1 / RATE
                if self._stop.is_set() and not end:
                    end = time.time() + LAST_S
                if end and len(self._answered) == len(self._sent):
                    return
                if select.select([sock], [], [], max(0.0, min(due - time.time(), 0.1)))[0]:
                    self._take(sock.recv(65535))

    def _ask(self, sock: socket.socket, me: int) -> None:
        key = f"probe-{me}-{len(self._sent)}"
        text = (
            f"OPTIONS sip:{HOST}:{self._port} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:{me};branch=z9hG4bK{key};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:probe@{HOST}>;tag={len(self._sent)}\r\n"
            f"To: <sip:{HOST}:{self._port}>\r\nCall-ID: {key}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        )
        self._sent[key.encode()] = time.time()
        sock.sendto(text.encode(), (HOST, self._port))

    def _take(self, answer: bytes) -> None:
        now = time.time()
        begin = answer.find(b"Call-ID: ") + 9
        key = answer[begin : answer.find(b"\r", begin)]
        if key in self._sent:
            self._answered.setdefault(key, now)
