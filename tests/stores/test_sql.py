from __future__ import annotations

import pytest

from nomad.stores.database import Database
from nomad.stores.sql import SqlCdrs, SqlPolicies
from tests.stores.contract import CdrContract, PolicyContract


class TestSqlCdrs(CdrContract):
    @pytest.fixture
    def store(self, database: Database) -> SqlCdrs:
        return SqlCdrs(database)


class TestSqlPolicies(PolicyContract):
    @pytest.fixture
    def store(self, database: Database) -> SqlPolicies:
        return SqlPolicies(database)
