"""radius.accounting: what is acknowledged, and what counts as the same event; without sockets."""

from __future__ import annotations

import pytest

from radius.accounting import AccountingHandler, record_of
from radius.errors import LedgerUnavailable, PacketError
from radius.packet import Code
from radius.ports import Record, Reply
from tests.radius.samples import CLIENT, NOW, ask, told

DONE = Reply(Code.ACCOUNTING_RESPONSE)


class Page:
    """A ledger in memory that can be full."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.full = False

    async def write(self, record: Record) -> None:
        if self.full:
            raise LedgerUnavailable("disk full")
        self.records.append(record)

    def ready(self) -> bool:
        return not self.full

    async def close(self) -> None:
        pass


async def test_a_record_goes_into_every_ledger() -> None:
    first, second = Page(), Page()
    subject = AccountingHandler([first, second], clock=lambda: NOW + 0.5)
    request = ask(
        ("Acct-Status-Type", "Stop"), ("Class", b"\x01"), ("Class", b"a"), ("Class", b"b"), ("User-Name", "alice")
    )
    assert await subject.handle(request, CLIENT) == DONE
    assert first.records == second.records
    assert first.records[0].values == {
        "received_at": NOW + 0.5,
        "client": "edge",
        "Acct-Status-Type": "Stop",
        "Class": ["0x01", "0x61", "0x62"],
        "User-Name": "alice",
    }


async def test_a_record_that_one_ledger_did_not_take_is_not_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Page(), Page()
    second.full = True
    subject = AccountingHandler([first, second])
    assert await subject.handle(told("Stop"), CLIENT) is None
    assert "disk full" in caplog.text
    second.full = False
    assert await subject.handle(told("Stop", delay=3), CLIENT) == DONE
    assert first.records[0].id == second.records[0].id  # the ledgers can tell that it is the same


async def test_status_server_is_answered_while_records_can_be_stored() -> None:
    page = Page()
    status = ask(code=Code.STATUS_SERVER)
    assert await AccountingHandler([page]).handle(status, CLIENT) == DONE
    page.full = True
    assert await AccountingHandler([page]).handle(status, CLIENT) is None


async def test_without_a_ledger_everything_is_taken() -> None:
    assert await AccountingHandler([]).handle(told("Start"), CLIENT) == DONE


async def test_a_request_that_says_nothing_is_a_packet_error() -> None:
    with pytest.raises(PacketError):
        await AccountingHandler([Page()]).handle(ask(("User-Name", "alice")), CLIENT)


def test_copies_of_an_event_have_one_id() -> None:
    first = record_of(told("Start"), CLIENT, NOW)
    copy = record_of(told("Start", delay=70), CLIENT, NOW + 70)
    assert first.id == copy.id
    assert (first.at, copy.at) == (NOW, NOW)


@pytest.mark.parametrize(
    "other",
    [
        told("Stop"),
        told("Start", "s2"),
        told("Start", at=NOW + 1),
        told("Start", user="bob"),
        told("Start", "s1", ("Acct-Session-Time", 1)),
    ],
)
def test_other_events_have_other_ids(other: object) -> None:
    assert record_of(told("Start"), CLIENT, NOW).id != record_of(other, CLIENT, NOW).id  # type: ignore[arg-type]  # a Packet


def test_events_without_a_date() -> None:
    on = ask(("Acct-Status-Type", "Accounting-On"), ("NAS-Identifier", "nas"))
    assert record_of(on, CLIENT, NOW).id != record_of(on, CLIENT, NOW + 60).id  # it started twice
    start = (("Acct-Status-Type", "Start"), ("Acct-Session-Id", "s1"))
    first = record_of(ask(*start, ("Acct-Delay-Time", 0)), CLIENT, NOW)
    copy = record_of(ask(*start, ("Acct-Delay-Time", 9)), CLIENT, NOW + 10)
    assert (copy.id, copy.at) == (first.id, NOW + 1)
