from __future__ import annotations

from dataclasses import fields

from sqlalchemy import inspect

from nomad.ports import Cdr
from nomad.stores.database import Database
from nomad.stores.tables import cdrs, metadata


def test_a_call_record_has_a_column_for_each_field() -> None:
    assert [column.name for column in cdrs.columns] == [field.name for field in fields(Cdr)]


async def test_opening_makes_every_table(database: Database) -> None:
    names = await database.read(lambda connection: set(inspect(connection).get_table_names()))
    assert names >= set(metadata.tables)
