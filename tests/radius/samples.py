"""Accounting-Requests and records for the tests of accounting."""

from __future__ import annotations

from radius import packet as wire
from radius.accounting import record_of
from radius.attributes import Value, encode
from radius.packet import Code, Packet
from radius.ports import Client, Record

CLIENT = Client("edge", b"s3cret")
NOW = 1_700_000_000


def ask(*pairs: tuple[str, Value], identifier: int = 1, code: int = Code.ACCOUNTING_REQUEST) -> Packet:
    """A request as the server decodes it."""
    data = wire.encode_request(code, identifier, encode(pairs), secret=CLIENT.secret, nonce=bytes(16), sign=False)
    return wire.decode(data)


def told(
    status: str, session: str = "s1", *more: tuple[str, Value], at: int = NOW, user: str = "alice", delay: int = 0
) -> Packet:
    """An Accounting-Request of a call."""
    pairs: list[tuple[str, Value]] = [("Acct-Status-Type", status), ("NAS-Identifier", "nas")]
    pairs += [("Acct-Session-Id", session), ("Event-Timestamp", at), ("Acct-Delay-Time", delay)]
    return ask(*pairs, *([("User-Name", user)] if user else []), *more, identifier=delay % 256)


def record(status: str, session: str = "s1", *more: tuple[str, Value], at: int = NOW, user: str = "alice") -> Record:
    """The same as the ledgers get it."""
    return record_of(told(status, session, *more, at=at, user=user), CLIENT, float(at))
