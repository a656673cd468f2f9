"""Brings a database to the tables of this version: what is missing is added, nothing is ever dropped or rewritten.

One process at a time does it; others that open the same database wait, and then find everything there.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Table, inspect, select, text
from sqlalchemy.schema import CreateColumn

from nomad.stores import tables

LOCK_KEY = 0x6E6F6D6164  # "nomad", of PostgreSQL's advisory lock


def bring_up(connection: Connection) -> bool:
    """Make tables, columns and indexes that are missing; False, and nothing done, for a database of a newer version."""
    _lock(connection)
    found = inspect(connection)
    if found.has_table(tables.schema.name):
        versions = connection.execute(select(tables.schema.c.version)).scalars().all()
        if any(version > tables.SCHEMA_VERSION for version in versions):
            connection.rollback()
            return False
    else:
        versions = []
    present = set(found.get_table_names())
    for table in tables.metadata.sorted_tables:
        if table.name in present:
            _complete(connection, table)
        else:
            table.create(connection)
    if tables.SCHEMA_VERSION not in versions:
        connection.execute(tables.schema.insert().values(version=tables.SCHEMA_VERSION))
    connection.commit()
    return True


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver begins nothing before a CREATE or ALTER


def _complete(connection: Connection, table: Table) -> None:
    found = inspect(connection)
    columns = {column["name"] for column in found.get_columns(table.name)}
    for column in table.columns:
        if column.name not in columns:
            connection.exec_driver_sql(_addition(connection, table, column))
    indexes = {index["name"] for index in found.get_indexes(table.name)}
    for index in table.indexes:
        if index.name not in indexes:
            index.create(connection)


def _addition(connection: Connection, table: Table, column: Column[object]) -> str:
    name = connection.dialect.identifier_preparer.format_table(table)
    return f"ALTER TABLE {name} ADD COLUMN {CreateColumn(column).compile(dialect=connection.dialect)}"
