"""A name server on loopback whose zone a test changes as it goes; it can be told to say nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.harness.ports import HOST

Zone = dict[tuple[str, str], Sequence[str]]
TTL_S = 1


class NameServer:
    """Answers from `zone`: (name, type) to the texts of the records. Names it does not know get NXDOMAIN."""

    def __init__(self, zone: Mapping[tuple[str, str], Sequence[str]]) -> None:
        self.zone: Zone = dict(zone)
        self.silent = False
        self.questions = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0))
        self._socket.settimeout(0.1)
        self._stopping = False
        self.address = f"{HOST}:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._stopping = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._stopping:
            try:
                data, peer = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            self.questions += 1
            if not self.silent:
                self._socket.sendto(self._answer(dns.message.from_wire(data)), peer)

    def _answer(self, query: dns.message.Message) -> bytes:
        asked = query.question[0]
        name, kind = asked.name.to_text(True).lower(), dns.rdatatype.to_text(asked.rdtype)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if records := self.zone.get((name, kind)):
            response.answer.append(dns.rrset.from_text_list(asked.name, TTL_S, "IN", kind, records))
        elif not any(known == name for known, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()
