"""Adapter: in which country an address is, from a MaxMind database file (.mmdb). Implements `ports.Countries`."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import maxminddb

from nomad.config import ConfigError

MAX_CACHED = 10_000


class NoCountries:
    """Without a file no address is known."""

    def of(self, address: str) -> str | None:
        """Nothing is known."""
        return None


class GeoIp:
    """One database file, in memory."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigError`."""
        try:
            self._reader = maxminddb.open_database(path, maxminddb.MODE_MEMORY)
        except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
            raise ConfigError(f"geoip: {path} cannot be used: {error}") from None
        self._known: dict[str, str | None] = {}

    def of(self, address: str) -> str | None:
        """The ISO 3166 code of an address, None when the file does not know it."""
        try:
            return self._known[address]
        except KeyError:
            if len(self._known) >= MAX_CACHED:
                self._known.clear()
            found = self._known[address] = self._look(address)
            return found

    def _look(self, address: str) -> str | None:
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
            found = self._reader.get(getattr(parsed, "ipv4_mapped", None) or parsed)
        except (ValueError, LookupError, TypeError, maxminddb.InvalidDatabaseError):
            return None  # an IPv6 address in a file of IPv4 addresses, or a damaged file
        country = found.get("country") if isinstance(found, dict) else None
        code = country.get("iso_code") if isinstance(country, dict) else None
        return code if isinstance(code, str) else None
