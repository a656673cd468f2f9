"""A process that stores and is killed: prints each id once its store has promised to keep it.

Run as `python -m tests.stores.crash KIND PATH`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nomad.stores.database import Database
from nomad.stores.journal import CdrOutbox, JournalCalls
from nomad.stores.ledger import Ledger
from nomad.stores.memory import MemoryLocations
from nomad.stores.snapshot import RegistrationSnapshot
from nomad.stores.spool import SqliteSpool
from nomad.stores.sql import SqlCdrs
from tests.stores.samples import cdr, live, record, registration

WRITERS = 8


def promise(id: str) -> None:
    sys.stdout.write(f"{id}\n")
    sys.stdout.flush()


async def write_spool(path: Path) -> None:
    spool = SqliteSpool(path)
    await spool.open()

    async def write(first: int) -> None:
        for number in range(first, 1_000_000, WRITERS):
            await spool.append([record(number)])
            promise(record(number).id)

    await asyncio.gather(*(write(first) for first in range(WRITERS)))


async def write_records(path: Path) -> None:
    database = Database(f"sqlite:///{path}")
    await database.open()
    ledger = Ledger(path.with_name("spool.db"))
    await ledger.open()
    cdrs, calls = CdrOutbox(ledger, SqlCdrs(database), failed=lambda _: None), JournalCalls(ledger)
    await cdrs.open()

    async def write(first: int) -> None:
        for number in range(first, 1_000_000, WRITERS):
            await asyncio.gather(cdrs.add([cdr(number)]), calls.put(live(number)))
            promise(f"call-{number}")

    await asyncio.gather(*(write(first) for first in range(WRITERS)))


async def write_registrations(path: Path) -> None:
    database = Database(f"sqlite:///{path}")
    await database.open()
    snapshot = RegistrationSnapshot(database)
    locations = MemoryLocations(on_change=snapshot.note)
    for number in range(1_000_000):
        await locations.save(registration(f"user{number}", number))
        if number % 50 == 49:
            await snapshot.flush()
            for kept in range(number - 49, number + 1):
                promise(f"user{kept}")


KINDS = {"spool": write_spool, "records": write_records, "registrations": write_registrations}

if __name__ == "__main__":
    asyncio.run(KINDS[sys.argv[1]](Path(sys.argv[2])))
