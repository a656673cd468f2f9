from __future__ import annotations

from pathlib import Path

import pytest

from nomad.config import Config, DirectoryTable, Fraud
from nomad.directory import DirectorySwitch, open_switch
from nomad.ports import Unavailable
from radius.errors import DirectoryUnavailable
from radius.switch import LdapSwitch
from tests.harness.ports import HOST, free_port

LDAP = DirectoryTable(url=f"ldap://{HOST}:{free_port()}", base="ou=people,dc=inria,dc=example")


def test_nothing_is_told_unless_that_is_wanted() -> None:
    assert open_switch(Config(domain="inria.example", directory=LDAP)) is None


async def test_a_directory_that_is_away_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    fraud = Fraud(directory_bind_dn="cn=lock", directory_password_file="secret")
    switch = open_switch(Config(domain="inria.example", directory=LDAP, fraud=fraud, folder=str(tmp_path)))
    assert switch is not None
    with pytest.raises(Unavailable, match="directory: "):
        await switch.switch("alice", on=False)


async def test_changes_wait_for_each_other() -> None:
    class Recording(LdapSwitch):
        def __init__(self) -> None:
            self.told: list[tuple[str, bool]] = []

        def switch(self, login: str, *, on: bool) -> bool:
            self.told.append((login, on))
            if login == "eve":
                raise DirectoryUnavailable("no")
            return True

    recording = Recording()
    switch = DirectorySwitch(recording)
    assert await switch.switch("alice", on=False)
    with pytest.raises(Unavailable):
        await switch.switch("eve", on=False)
    assert recording.told == [("alice", False), ("eve", False)]
