"""The tables of Nomad's database, for SQLite and PostgreSQL alike."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
)

SCHEMA_VERSION = 2  # a column that is added later needs a server_default: old databases get it, see `migration.py`

metadata = MetaData()

schema = Table(
    "nomad_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

cdrs = Table(
    "cdrs",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("call_id", Text, nullable=False),
    Column("direction", String(8), nullable=False),
    Column("user", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("callee", Text, nullable=False),
    Column("number_class", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("answered_at", Double),
    Column("ended_at", Double, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("result", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("terminate_cause", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("number", Text, nullable=False, server_default=""),
    Column("group", Text, nullable=False, server_default=""),
    Column("groups", Text, nullable=False, server_default="[]"),  # JSON
    Column("classes", Text, nullable=False, server_default="[]"),  # JSON, hex
    Column("transport", Text, nullable=False, server_default=""),
    Column("policy", Text, nullable=False, server_default=""),
    Column("cost", Double, nullable=False, server_default="0"),
    Column("chain", Text, nullable=False, server_default=""),
    Index("cdrs_by_start", "started_at"),
    Index("cdrs_by_user", "user", "started_at"),
)

registrations = Table(
    "registrations",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("user", String(255), primary_key=True),
    Column("expires_at", Double, nullable=False),  # of the last binding
    Column("data", LargeBinary, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("sha", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("restores", Integer),
    Column("failed_tests", Integer, nullable=False, server_default="0"),
    Index("policies_by_text", "sha"),
)

bans = Table(
    "bans",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("address", String(64), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("until", Double, nullable=False),
    Column("length_s", Double, nullable=False),
)

locks = Table(
    "locks",
    metadata,
    Column("user", String(255), primary_key=True),
    Column("why", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("names", Text, nullable=False),
    Column("in_directory", Boolean, nullable=False, server_default="0"),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("more", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("mark", String(24), nullable=False, unique=True),
    Index("audit_by_time", "at"),
)
NEVER = "the audit log is never changed"
AUDIT_TRIGGERS = (
    *(
        (
            "sqlite",
            f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit BEGIN SELECT RAISE(ABORT, '{NEVER}'); END",
        )
        for verb in ("UPDATE", "DELETE")
    ),
    (
        "postgresql",
        "CREATE OR REPLACE FUNCTION nomad_audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{NEVER}'; END $$",
    ),
    (
        "postgresql",
        "CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION nomad_audit_is_kept()",
    ),
)


def _protect(table: Table, connection: Connection, **more: object) -> None:
    for dialect, statement in AUDIT_TRIGGERS:
        if connection.dialect.name == dialect:
            connection.exec_driver_sql(statement)


event.listen(audit, "after_create", _protect)
