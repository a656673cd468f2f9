"""Accounts that the directory is to refuse: the attribute for that in a person's LDAP entry, set and taken back.

Blocks while it works. Changes this attribute and nothing else (and objectClass sipPerson).
"""

from __future__ import annotations

from radius.entries import Names
from radius.keyring import SIP_PERSON, NoSuchPerson
from radius.ldap import LdapSettings, open_writer

DISABLED = "TRUE"


class LdapSwitch:
    """An LDAP directory, through an account that may write the attribute."""

    def __init__(self, settings: LdapSettings, names: Names) -> None:
        self._settings = settings
        self._names = names

    def switch(self, login: str, *, on: bool) -> bool:
        """Accept or refuse a person from now on; whether that changed anything.

        Raises `NoSuchPerson` or `DirectoryUnavailable`.
        """
        name = self._names.disabled[0]
        with open_writer(self._settings) as writer:
            found = writer.entries(self._settings.base, self._names.login, login, (name, "objectClass"))
            if len(found) != 1:
                raise NoSuchPerson(f"{self._settings.urls[0]}: {len(found)} entries have login '{login}'")
            dn, entry = found[0]
            values = entry.get(name.lower(), [])
            disabled = any(value.upper() == DISABLED for value in values)
            if disabled is not on:
                return False
            classes = {value.lower() for value in entry.get("objectclass", [])}
            if not on and name == Names().disabled[0] and classes and SIP_PERSON.lower() not in classes:
                writer.add_value(dn, "objectClass", SIP_PERSON)
            writer.replace_values(dn, name, remove=values, add=[] if on else [DISABLED])
            return True
