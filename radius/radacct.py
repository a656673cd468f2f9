"""Accounting records in an SQL table, one row a session, after the table `radacct` of FreeRADIUS.

Start, Interim-Update and Stop are merged so that neither their order nor copies of them matter. SQLite with
synchronous=FULL, PostgreSQL with its own synchronous_commit: what `store` returned for is durable. Drops no old rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
    create_engine,
    event,
    func,
    inspect,
    or_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from radius.errors import ConfigError, LedgerUnavailable
from radius.ports import Record

CONNECT_TIMEOUT_S = 5
LOCK_WAIT_S = 5.0  # another process holds SQLite's write lock
STATEMENT_TIMEOUT_MS = 10_000
REBOOT = "NAS-Reboot"
UNIQUE_CHARS = 32
GIGAWORD = 1 << 32
MAX_INTEGER = (1 << 63) - 1
NODE = ("Accounting-On", "Accounting-Off")
ENDS = ("Stop", "Failed")
STATES = ("Start", "Interim-Update", *ENDS)

# Columns by attribute. The first value that is known stays
TEXTS = {
    "username": "User-Name",
    "nasidentifier": "NAS-Identifier",
    "nasipaddress": "NAS-IP-Address",
    "servicetype": "Service-Type",
    "acctauthentic": "Acct-Authentic",
    "acctmultisessionid": "Acct-Multi-Session-Id",
    "calledstationid": "Called-Station-Id",
    "callingstationid": "Calling-Station-Id",
    "class": "Class",
    "sipcallid": "Nomad-SIP-Call-Id",
    "sipfromtag": "Nomad-SIP-From-Tag",
    "siptotag": "Nomad-SIP-To-Tag",
    "sipmethod": "Nomad-SIP-Method",
    "direction": "Nomad-Direction",
    "numberclass": "Nomad-Number-Class",
    "rule": "Nomad-Rule",
    "useragent": "Nomad-User-Agent",
    "peer": "Nomad-Peer",
}
# The highest value counts
NUMBERS = {
    "acctsessiontime": "Acct-Session-Time",
    "sipresponsecode": "Nomad-SIP-Response-Code",
    "mediapackets": "Nomad-Media-Packets",
    "mediaoctets": "Nomad-Media-Octets",
    "medialost": "Nomad-Media-Lost",
}
OCTETS = {
    "acctinputoctets": ("Acct-Input-Octets", "Acct-Input-Gigawords"),
    "acctoutputoctets": ("Acct-Output-Octets", "Acct-Output-Gigawords"),
}

metadata = MetaData()
radacct = Table(
    "radacct",
    metadata,
    Column("radacctid", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("acctsessionid", Text, nullable=False),
    Column("acctuniqueid", String(UNIQUE_CHARS), nullable=False, unique=True),
    Column("client", Text, nullable=False),
    *(Column(name, Text) for name in TEXTS),
    Column("acctstarttime", DateTime(timezone=True)),
    Column("acctupdatetime", DateTime(timezone=True)),
    Column("acctstoptime", DateTime(timezone=True)),
    Column("acctterminatecause", Text),
    *(Column(name, BigInteger) for name in (*NUMBERS, *OCTETS)),
    Index("radacct_by_start", "acctstarttime"),
    Index("radacct_by_user", "username", "acctstarttime"),
)
Index(
    "radacct_open",
    radacct.c.client,
    radacct.c.nasidentifier,
    postgresql_where=radacct.c.acctstoptime.is_(None),
    sqlite_where=radacct.c.acctstoptime.is_(None),
)


class SqlBook:
    """A `Book` that is the table `radacct`; SQLite or PostgreSQL by SQLAlchemy URL."""

    def __init__(self, url: str, *, password: str = "") -> None:
        """Does not connect yet. Raises `ConfigError` when the URL cannot be meant."""
        try:
            parsed = _with_driver(make_url(url))
            self._engine = _engine(parsed.set(password=password) if password else parsed)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise ConfigError(f"sql: {url.partition(':')[0]}: {error}") from None
        self._name = parsed.render_as_string(hide_password=True)
        self._merge = _merge(postgresql if parsed.drivername.startswith("postgresql") else sqlite)
        self._ready = False

    def store(self, records: Sequence[Record]) -> dict[str, str]:
        """Merge records into their sessions' rows. Raises `LedgerUnavailable`."""
        try:
            self._make_table()
            try:
                self._store(records)
                return {}
            except (DataError, IntegrityError):
                return self._store_apart(records)
        except SQLAlchemyError as error:
            raise LedgerUnavailable(f"{self._name}: {_first_line(error)}") from None

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _store(self, records: Sequence[Record]) -> None:
        """All in one transaction; neighbours of one kind in one statement."""
        with self._engine.begin() as connection:
            rows: list[dict[str, Any]] = []
            for record in records:
                status = record.values.get("Acct-Status-Type")
                if status in NODE:
                    self._merge_rows(connection, rows)
                    rows = []
                    connection.execute(CLOSE_OPEN, _node_row(record))
                elif status in STATES:
                    rows.append(_row(record, str(status)))
            self._merge_rows(connection, rows)

    def _store_apart(self, records: Sequence[Record]) -> dict[str, str]:
        """Each record in a transaction of its own, so that one that fits no column harms no other."""
        refused = {}
        for record in records:
            try:
                self._store([record])
            except (DataError, IntegrityError) as error:
                refused[record.id] = _first_line(error)
        return refused

    def _merge_rows(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        if rows:
            connection.execute(self._merge, rows)

    def _make_table(self) -> None:
        if self._ready:
            return
        with self._engine.begin() as connection:
            metadata.create_all(connection)
            there = {column["name"] for column in inspect(connection).get_columns(radacct.name)}
        missing = [column.name for column in radacct.columns if column.name not in there]
        if missing:
            raise LedgerUnavailable(
                f"{self._name}: table radacct is somebody else's, it has no column {missing[0]}; "
                "name a database of its own in sql"
            )
        self._ready = True


def _merge(dialect: Any) -> Any:
    """INSERT of a record that becomes part of the session's row when there is one."""
    insert = dialect.insert(radacct).values({column.name: bindparam(f"of_{column.name}") for column in _FILLED})
    new, old = insert.excluded, radacct.c
    first = {name: func.coalesce(old[name], new[name]) for name in (*TEXTS, "acctstarttime")}
    # What the NAS says of an end counts more than what its next start implied
    last = {name: func.coalesce(new[name], old[name]) for name in ("acctstoptime", "acctterminatecause")}
    highest = {name: _greater(old[name], new[name]) for name in (*NUMBERS, *OCTETS, "acctupdatetime")}
    return insert.on_conflict_do_update(index_elements=["acctuniqueid"], set_={**first, **last, **highest})


def _greater(old: Any, new: Any) -> Any:
    return case((or_(old.is_(None), new > old), new), else_=old)


_FILLED = [column for column in radacct.columns if column.name != "radacctid"]

# A NAS that starts or stops has no sessions any more (RFC 2866 5.1); `at` keeps a copy from ending later ones
CLOSE_OPEN = (
    update(radacct)
    .where(
        and_(
            radacct.c.client == bindparam("of_client"),
            func.coalesce(radacct.c.nasidentifier, "") == bindparam("of_nas"),
            radacct.c.acctstoptime.is_(None),
            radacct.c.acctstarttime < bindparam("at"),
        )
    )
    .values(acctstoptime=bindparam("at"), acctterminatecause=REBOOT)
)


def _row(record: Record, status: str) -> dict[str, Any]:
    values = record.values
    at = _time(record.at)
    row: dict[str, Any] = {name: _text(values.get(attribute)) for name, attribute in TEXTS.items()}
    row |= {name: _number(values.get(attribute)) for name, attribute in NUMBERS.items()}
    for name, (low, high) in OCTETS.items():
        octets = _number(values.get(low))
        row[name] = None if octets is None else octets + GIGAWORD * (_number(values.get(high)) or 0)
    lasted = row["acctsessiontime"]
    begun = record.at if status == "Start" else None if lasted is None else record.at - lasted
    row |= {
        "acctsessionid": _text(values.get("Acct-Session-Id")) or "",
        "acctuniqueid": _unique(values),
        "client": _text(values.get("client")) or "",
        "acctstarttime": None if begun is None else _time(begun),
        "acctupdatetime": at,
        "acctstoptime": at if status in ENDS else None,
        "acctterminatecause": _text(values.get("Acct-Terminate-Cause")),
    }
    return {f"of_{name}": value for name, value in row.items()}


def _node_row(record: Record) -> dict[str, Any]:
    values = record.values
    nas = _text(values.get("NAS-Identifier")) or ""
    return {"of_client": _text(values.get("client")) or "", "of_nas": nas, "at": _time(record.at)}


def _unique(values: Any) -> str:
    """One id per session: session ids of two NAS, and of one that was restarted, may be the same."""
    names = ("client", "NAS-Identifier", "NAS-IP-Address", "NAS-IPv6-Address", "User-Name", "Acct-Session-Id")
    told = "\0".join(_text(values.get(name)) or "" for name in names)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:UNIQUE_CHARS]


def _text(value: object) -> str | None:
    """As a text column takes it: no NUL, no lone surrogates."""
    if value is None:
        return None
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace("\0", "").encode("utf-8", "backslashreplace").decode()


def _number(value: object) -> int | None:
    return min(value, MAX_INTEGER) if isinstance(value, int) else None


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(max(0.0, at), UTC)


def _with_driver(url: URL) -> URL:
    """The driver that is shipped, when the URL names none."""
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _engine(url: URL) -> Engine:
    if url.drivername.startswith("sqlite"):
        if url.database in (None, "", ":memory:"):
            raise ArgumentError("a database in memory keeps nothing; name a file, as in sqlite:///radacct.db")
        engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_S, "check_same_thread": False}, pool_size=1)
        event.listen(engine, "connect", _set_up_sqlite)
        return engine
    if url.drivername.startswith("postgresql"):
        arguments = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
            "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
            "application_name": "nomad-radius",
        }
        return create_engine(url, connect_args=arguments, pool_size=1, max_overflow=0, pool_pre_ping=True)
    raise ArgumentError("use sqlite:///file.db or postgresql://user@host/database")


def _set_up_sqlite(connection: Any, record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _first_line(error: SQLAlchemyError) -> str:
    """Without SQL and parameters, which are personal data."""
    origin = getattr(error, "orig", None) or error
    return (str(origin) or type(origin).__name__).splitlines()[0]
