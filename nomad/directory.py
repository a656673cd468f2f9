"""Adapter: locks of accounts in the directory, beside the work of the edge. Implements `ports.AccountSwitch`."""

from __future__ import annotations

import asyncio

from nomad.config import Config, secret
from nomad.ports import Unavailable
from nomad.servers import embedded_config
from radius.errors import DirectoryUnavailable
from radius.keyring import NoSuchPerson
from radius.service import ldap_settings
from radius.switch import LdapSwitch

PASSWORD = "NOMAD_FRAUD_BIND_PASSWORD"  # noqa: S105 - the name of a variable


class DirectorySwitch:
    """An LDAP directory; one change at a time, in a thread."""

    def __init__(self, switch: LdapSwitch) -> None:
        self._switch = switch
        self._turn = asyncio.Lock()

    async def switch(self, user: str, *, on: bool) -> bool:
        """Let the directory refuse, or accept again, this login."""
        async with self._turn:
            try:
                return await asyncio.to_thread(self._switch.switch, user, on=on)
            except (DirectoryUnavailable, NoSuchPerson) as error:
                raise Unavailable(f"directory: {error}") from None


def open_switch(config: Config) -> DirectorySwitch | None:
    """That of a configuration, None when the directory is not to be told. Raises `ConfigError`."""
    table = config.fraud
    if not table.directory_bind_dn:
        return None
    password = secret(config, table.directory_password_file, PASSWORD).decode("utf-8", "surrogateescape")
    made = embedded_config(config)
    settings = ldap_settings(made, bind_dn=table.directory_bind_dn, bind_password=password)
    return DirectorySwitch(LdapSwitch(settings, made.directory.attributes.names()))
