"""Accounting-Requests into ledgers (RFC 2866, RFC 2869 5.3, RFC 5997). Does not see sockets.

A request is acknowledged when every ledger has it durably. Copies of one event have one id, whatever they waited.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence

from radius import attributes
from radius.errors import LedgerUnavailable, PacketError
from radius.packet import Code, Packet, Type
from radius.ports import Client, Ledger, Record, Reply

logger = logging.getLogger(__name__)

ID_CHARS = 32
ON, OFF = 7, 8  # Acct-Status-Type of a NAS that starts and stops (RFC 2866 5.1)
# What differs between two copies of one event (RFC 2866 5.2), or is made anew for each packet
OF_THE_COPY = frozenset({Type.ACCT_DELAY_TIME, Type.PROXY_STATE, Type.MESSAGE_AUTHENTICATOR})


class AccountingHandler:
    """Writes accounting down; with no ledger it acknowledges what nobody wants to keep."""

    def __init__(self, ledgers: Sequence[Ledger], *, clock: Callable[[], float] = time.time) -> None:
        self._ledgers = tuple(ledgers)
        self._clock = clock

    async def handle(self, request: Packet, client: Client) -> Reply | None:
        """The reply, None to stay silent. Raises `PacketError` for a request that makes no sense."""
        if request.code == Code.STATUS_SERVER:
            # Silence tells the client to look for another server while records cannot be stored.
            return Reply(Code.ACCOUNTING_RESPONSE) if all(ledger.ready() for ledger in self._ledgers) else None
        record = record_of(request, client, self._clock())
        results = await asyncio.gather(*(ledger.write(record) for ledger in self._ledgers), return_exceptions=True)
        for result in results:
            if isinstance(result, LedgerUnavailable):
                logger.error("accounting record of %s not stored: %s", client.name, result)
                return None
            if isinstance(result, BaseException):
                raise result
        return Reply(Code.ACCOUNTING_RESPONSE)


def record_of(request: Packet, client: Client, now: float) -> Record:
    """An Accounting-Request as a record. Raises `PacketError` when it says nothing of what happened."""
    status = request.integer(Type.ACCT_STATUS_TYPE)
    if status is None:
        raise PacketError("accounting", "Accounting-Request without Acct-Status-Type")
    dated = request.integer(Type.EVENT_TIMESTAMP)
    at = dated if dated is not None else now - (request.integer(Type.ACCT_DELAY_TIME) or 0)
    values: dict[str, object] = {"received_at": round(now, 3), "client": client.name}
    for name, value in attributes.named(request):
        _collect(values, name, value)
    # A NAS that starts twice says the same twice: without a date only the time tells one start from the other.
    undated = str(int(at)) if dated is None and status in (ON, OFF) else ""
    return Record(_event_id(request, client, undated), float(at), values)


def _event_id(request: Packet, client: Client, undated: str) -> str:
    told = hashlib.sha256(f"{client.name}\0{undated}\0".encode())
    for kind, value in request.attributes:
        if kind not in OF_THE_COPY:
            told.update(bytes((kind, len(value))) + value)
    return told.hexdigest()[:ID_CHARS]


def _collect(record: dict[str, object], name: str, value: object) -> None:
    """One value per name, a list when there are several; octets as hexadecimal text."""
    shown = f"0x{value.hex()}" if isinstance(value, bytes) else value
    if name not in record:
        record[name] = shown
    elif isinstance(before := record[name], list):
        before.append(shown)
    else:
        record[name] = [before, shown]
