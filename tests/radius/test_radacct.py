"""radius.radacct: sessions in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from radius.attributes import Value
from radius.errors import ConfigError, LedgerUnavailable
from radius.ports import Record
from radius.radacct import SqlBook
from tests.harness.debian import require
from tests.harness.postgres import Postgres
from tests.radius.samples import NOW, record

START = (
    ("Calling-Station-Id", "sip:alice@inria.example"), ("Called-Station-Id", "sip:1000@inria.example"),
    ("Class", b"staff"), ("Nomad-SIP-Call-Id", "c1"), ("Nomad-SIP-Response-Code", 200),
)  # fmt: skip


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    require("postgresql")
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/radacct.db"
    server: Postgres = request.getfixturevalue("postgres")
    execute(server.url, "DROP TABLE IF EXISTS radacct")
    return server.url


@pytest.fixture
def book(url: str) -> Iterator[SqlBook]:
    made = SqlBook(url)
    yield made
    made.close()


def execute(url: str, statement: str) -> list[dict[str, Any]]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        rows = [dict(row._mapping) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


def rows(url: str) -> list[dict[str, Any]]:
    return execute(url, "SELECT * FROM radacct ORDER BY acctsessionid, acctstarttime")


def seconds(value: object) -> int | None:
    """A time of either database as Unix seconds."""
    if value is None:
        return None
    at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def call(session: str = "s1", *, stop: bool = True) -> list[Record]:
    """Every record of a call of 90 s."""
    made = [record("Start", session, *START)]
    made += [
        record("Interim-Update", session, *START, ("Acct-Session-Time", lasted), at=NOW + lasted) for lasted in (30, 60)
    ]
    ends: list[tuple[str, Value]] = [("Acct-Session-Time", 90), ("Acct-Terminate-Cause", "User-Request")]
    return [*made, record("Stop", session, *START, *ends, at=NOW + 90)] if stop else made


def test_a_call_is_one_row(book: SqlBook, url: str) -> None:
    assert book.store(call()) == {}
    (row,) = rows(url)
    assert (row["acctsessionid"], row["username"], row["nasidentifier"], row["client"]) == (
        "s1",
        "alice",
        "nas",
        "edge",
    )
    assert [seconds(row[f"acct{name}time"]) for name in ("start", "update", "stop")] == [NOW, NOW + 90, NOW + 90]
    assert (row["acctsessiontime"], row["acctterminatecause"]) == (90, "User-Request")
    assert (row["callingstationid"], row["calledstationid"]) == ("sip:alice@inria.example", "sip:1000@inria.example")
    assert (row["class"], row["sipcallid"], row["sipresponsecode"]) == ("0x7374616666", "c1", 200)


def test_neither_order_nor_copies_matter(book: SqlBook, url: str) -> None:
    book.store(call("whole"))
    rng = random.Random(4)
    for number in range(20):
        told = [rng.choice(call(f"n{number}")) for _ in range(6)] + call(f"n{number}")
        rng.shuffle(told)
        for first in range(0, len(told), 3):
            book.store(told[first : first + 3])
    found = rows(url)
    assert len(found) == 21
    kept = [
        {key: row[key] for key in row if key not in ("radacctid", "acctsessionid", "acctuniqueid")} for row in found
    ]
    assert all(row == kept[-1] for row in kept)


def test_a_session_that_goes_on(book: SqlBook, url: str) -> None:
    book.store(call(stop=False))
    (row,) = rows(url)
    assert (seconds(row["acctupdatetime"]), row["acctstoptime"], row["acctsessiontime"]) == (NOW + 60, None, 60)


def test_a_stop_alone_tells_when_the_call_began(book: SqlBook, url: str) -> None:
    book.store(call()[-1:])
    (row,) = rows(url)
    assert (seconds(row["acctstarttime"]), seconds(row["acctstoptime"])) == (NOW, NOW + 90)


def test_a_nas_that_starts_has_no_sessions(book: SqlBook, url: str) -> None:
    on = record("Accounting-On", "on", at=NOW + 100, user="")
    book.store([*call("a", stop=False), *call("b"), on])
    later = record("Start", "c", at=NOW + 101)
    book.store([later, on])  # a copy that comes late ends nothing
    causes = {row["acctsessionid"]: (row["acctterminatecause"], seconds(row["acctstoptime"])) for row in rows(url)}
    assert causes == {"a": ("NAS-Reboot", NOW + 100), "b": ("User-Request", NOW + 90), "c": (None, None)}
    book.store(call("a"))  # what the NAS had kept of the call comes after all
    assert (rows(url)[0]["acctterminatecause"], seconds(rows(url)[0]["acctstoptime"])) == ("User-Request", NOW + 90)


def test_the_same_session_id_of_another_person_is_another_session(book: SqlBook, url: str) -> None:
    book.store([record("Start", "s1"), record("Start", "s1", user="bob")])
    assert len(rows(url)) == 2


def test_a_restart_keeps_what_was_stored(book: SqlBook, url: str) -> None:
    book.store(call()[:2])
    book.close()
    again = SqlBook(url)
    again.store(call())
    again.close()
    assert len(rows(url)) == 1


def test_text_that_no_database_takes(book: SqlBook, url: str) -> None:
    odd = Record(
        "x" * 32, NOW, {"Acct-Status-Type": "Start", "client": "edge", "User-Name": "a\0b\udcff", "Class": ["1", "2"]}
    )
    assert book.store([odd]) == {}
    (row,) = rows(url)
    assert (row["username"], row["class"], row["acctsessionid"]) == ("ab\\udcff", "1, 2", "")


def test_octets_beyond_32_bits(book: SqlBook, url: str) -> None:
    book.store([record("Stop", "s1", ("Acct-Input-Octets", 5), ("Acct-Input-Gigawords", 2))])
    assert rows(url)[0]["acctinputoctets"] == 5 + (2 << 32)


def test_a_record_that_fits_no_column_harms_no_other(book: SqlBook, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = record("Start", "bad")
    monkeypatch.setattr(
        "radius.radacct._unique", lambda values: None if values["Acct-Session-Id"] == "bad" else "x" * 32
    )
    refused = book.store([bad, record("Start", "good")])
    assert list(refused) == [bad.id]
    assert [row["acctsessionid"] for row in rows(url)] == ["good"]


def test_a_table_of_somebody_else_is_left_alone(url: str) -> None:
    execute(url, "CREATE TABLE radacct (radacctid integer primary key, acctsessionid varchar(64))")
    book = SqlBook(url)
    with pytest.raises(LedgerUnavailable, match="radacct is somebody else's"):
        book.store(call())
    book.close()


def test_a_server_that_was_restarted(postgres: Postgres) -> None:
    execute(postgres.url, "DROP TABLE IF EXISTS radacct")
    book = SqlBook(postgres.url)
    book.store(call()[:1])
    postgres.crash()
    with pytest.raises(LedgerUnavailable, match="postgresql") as failure:
        book.store(call())
    assert "alice" not in str(failure.value)
    postgres.restart()
    assert book.store(call()) == {}
    assert len(rows(postgres.url)) == 1
    book.close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_urls_that_cannot_be_meant(url: str) -> None:
    with pytest.raises(ConfigError, match="sql: "):
        SqlBook(url)


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    book = SqlBook("postgresql://nomad@127.0.0.1:1/x", password="s3cret-word")
    with pytest.raises(LedgerUnavailable) as failure:
        book.store(call())
    assert "s3cret-word" not in str(failure.value)
    book.close()


def test_many_sessions_in_one_batch(book: SqlBook, url: str) -> None:
    told = list(itertools.chain.from_iterable(call(f"s{number}") for number in range(100)))
    book.store(told)
    assert execute(url, "SELECT count(*) AS n FROM radacct WHERE acctstoptime IS NOT NULL")[0]["n"] == 100
