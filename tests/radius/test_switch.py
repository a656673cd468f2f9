"""radius.switch on a real slapd."""

from __future__ import annotations

import dataclasses

import pytest

from radius.entries import Names
from radius.errors import DirectoryUnavailable
from radius.keyring import NoSuchPerson
from radius.ldap import LdapDirectory, LdapSettings
from radius.switch import LdapSwitch
from tests.harness.people import ALICE, DORA, ERIN
from tests.harness.slapd import Slapd


@pytest.fixture
def settings(slapd: Slapd) -> LdapSettings:
    return LdapSettings((slapd.url,), slapd.people_base, slapd.admin_dn, slapd.admin_password, cache_s=0.0)


async def test_an_account_is_refused_and_accepted_again(settings: LdapSettings, slapd: Slapd) -> None:
    switch, directory = LdapSwitch(settings, Names()), LdapDirectory(settings, Names())
    try:
        for login in (ALICE.login, ERIN.mail):
            before = slapd.search(f"(uid={login.partition('@')[0]})", "sipDisabled")
            assert switch.switch(login, on=False)
            assert not switch.switch(login, on=False)
            person = await directory.find(login)
            assert person is not None
            assert person.disabled
            assert switch.switch(login, on=True)
            assert not switch.switch(login, on=True)
            person = await directory.find(login)
            assert person is not None
            assert not person.disabled
            assert slapd.search(f"(uid={login.partition('@')[0]})", "sipDisabled") == before
        assert not switch.switch(DORA.login, on=False)  # was disabled
    finally:
        await directory.close()


def test_failures_are_readable(settings: LdapSettings, slapd: Slapd) -> None:
    switch = LdapSwitch(settings, Names())
    for nobody in ("zoe", "*", "bob)(uid=alice"):
        with pytest.raises(NoSuchPerson):
            switch.switch(nobody, on=False)
    reader = dataclasses.replace(settings, bind_dn=slapd.bind_dn, bind_password=slapd.bind_password)
    with pytest.raises(DirectoryUnavailable):
        LdapSwitch(reader, Names()).switch(ALICE.login, on=False)
