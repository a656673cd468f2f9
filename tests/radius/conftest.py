"""The real directory and the real RADIUS server, started once, when a test of this folder asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import radius.ldap  # noqa: F401 - knows how to import ldap3 without its warnings
from tests.harness.debian import require
from tests.harness.freeradius import FreeRadius
from tests.harness.pki import Pki
from tests.harness.slapd import Slapd


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A certification authority."""
    require("openssl")
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def slapd(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Slapd]:
    """A directory with the sample people, LDAP, StartTLS and LDAPS."""
    require("slapd")
    server = Slapd(tmp_path_factory.mktemp("slapd"), certificate=pki.issue("slapd"), ca=pki.ca)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def freeradius(tmp_path_factory: pytest.TempPathFactory, slapd: Slapd) -> Iterator[FreeRadius]:
    """FreeRADIUS over that directory."""
    require("freeradius")
    server = FreeRadius(tmp_path_factory.mktemp("freeradius"), slapd)
    yield server
    server.stop()
