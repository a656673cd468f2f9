from __future__ import annotations

import pytest

from nomad.stores.database import Database
from nomad.stores.sql import SqlCalls, SqlCdrs, SqlPolicies
from tests.stores.contract import CallContract, CdrContract, PolicyContract
from tests.stores.samples import live


class TestSqlCdrs(CdrContract):
    @pytest.fixture
    def store(self, database: Database) -> SqlCdrs:
        return SqlCdrs(database)


class TestSqlPolicies(PolicyContract):
    @pytest.fixture
    def store(self, database: Database) -> SqlPolicies:
        return SqlPolicies(database)


class TestSqlCalls(CallContract):
    @pytest.fixture
    def store(self, database: Database) -> SqlCalls:
        return SqlCalls(database)


async def test_nodes_of_one_database_keep_their_calls_apart(database: Database) -> None:
    first, second = SqlCalls(database, node="a"), SqlCalls(database, node="b")
    await first.put(live(1, data=b"a"))
    await second.put(live(1, data=b"b"))
    await first.remove("call-1")
    assert list(await first.load()) == []
    assert list(await second.load()) == [live(1, data=b"b")]
