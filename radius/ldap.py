"""Directory over LDAP through ldap3, which blocks: worker threads, each with a connection of its own (RFC 4511, 4513).

Failover between URLs, StartTLS and ldaps with the certificate checked, a timeout per look-up, a cache of people and a
shorter one of nobody, and a circuit breaker so that a dead directory costs nothing but a clear refusal.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars

from radius.entries import Entry, Names, person_from
from radius.errors import DirectoryUnavailable
from radius.ports import Person

logger = logging.getLogger(__name__)

MAX_WAITING = 5000  # look-ups that wait for a thread; more are refused at once
MAX_CACHED = 100_000


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """Where the directory is and how patient to be."""

    urls: tuple[str, ...]
    base: str
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    start_tls: bool = False
    ca_file: str = ""
    timeout_s: float = 1.0
    connections: int = 4
    cache_s: float = 10.0
    negative_cache_s: float = 2.0
    failures: int = 3
    """So many failed look-ups in a row open the circuit breaker."""
    rest_s: float = 1.0
    """How long the open breaker refuses before one look-up is risked."""


class Cache:
    """People by login for a short time; None stands for nobody."""

    def __init__(self, positive_s: float, negative_s: float, *, limit: int = MAX_CACHED) -> None:
        self._positive_s = positive_s
        self._negative_s = negative_s
        self._limit = limit
        self._entries: OrderedDict[str, tuple[float, Person | None]] = OrderedDict()

    def get(self, login: str, now: float) -> tuple[Person | None] | None:
        """The person in a tuple, None when it is not known."""
        entry = self._entries.get(login)
        return (entry[1],) if entry is not None and entry[0] > now else None

    def put(self, login: str, person: Person | None, now: float) -> None:
        """Remember; the oldest entry makes room."""
        lifetime = self._positive_s if person is not None else self._negative_s
        if lifetime <= 0:
            return
        self._entries.pop(login, None)
        if len(self._entries) >= self._limit:
            self._entries.popitem(last=False)
        self._entries[login] = (now + lifetime, person)

    def clear(self) -> None:
        """Forget everybody."""
        self._entries.clear()


class Breaker:
    """Refuses while the directory is known to be away, and risks one look-up now and then."""

    def __init__(self, failures: int, rest_s: float) -> None:
        self.why = ""
        self._limit = failures
        self._rest_s = rest_s
        self._failures = 0
        self._next_try = 0.0

    @property
    def closed(self) -> bool:
        """Whether look-ups go through as usual."""
        return self._failures < self._limit

    def admit(self, now: float) -> bool:
        """Whether this look-up may go through."""
        if self.closed:
            return True
        if now < self._next_try:
            return False
        self._next_try = now + self._rest_s
        return True

    def succeeded(self) -> bool:
        """True when this closed the breaker."""
        was_open = not self.closed
        self._failures = 0
        return was_open

    def failed(self, why: str, now: float) -> bool:
        """True when this opened the breaker."""
        was_closed = self.closed
        self._failures += 1
        self.why = why
        self._next_try = now + self._rest_s
        return was_closed and not self.closed


class LdapDirectory:
    """People of an LDAP directory."""

    def __init__(
        self, settings: LdapSettings, names: Names | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._names = names or Names()
        self._clock = clock
        self._cache = Cache(settings.cache_s, settings.negative_cache_s)
        self._breaker = Breaker(settings.failures, settings.rest_s)
        self._threads = ThreadPoolExecutor(settings.connections, thread_name_prefix="ldap")
        self._sessions = _Sessions(settings)
        self._asking: dict[str, asyncio.Future[Person | None]] = {}
        self.searches = 0

    async def find(self, login: str) -> Person | None:
        """The one person with this login or mail address, None when there is none or more than one.

        Raises `DirectoryUnavailable`.
        """
        login = login.lower()
        known = self._cache.get(login, self._clock())
        if known is not None:
            return known[0]
        asking = self._asking.get(login)
        if asking is None:
            if len(self._asking) >= MAX_WAITING:
                raise DirectoryUnavailable(f"{self._settings.urls[0]}: {MAX_WAITING} look-ups wait")
            if not self._breaker.admit(self._clock()):
                raise DirectoryUnavailable(self._breaker.why)
            asking = asyncio.ensure_future(self._ask(login))
            self._asking[login] = asking
            asking.add_done_callback(lambda done: self._asked(login, done))
        return await asyncio.shield(asking)

    async def ready(self) -> bool:
        """Whether the directory can be asked just now; tries when it could not lately."""
        if self._breaker.closed:
            return True
        try:
            await self.find("")
        except DirectoryUnavailable:
            return False
        return True

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)
        self._sessions.close()

    async def _ask(self, login: str) -> Person | None:
        loop = asyncio.get_running_loop()
        self.searches += 1
        try:
            async with asyncio.timeout(self._settings.timeout_s * 1.5):
                person = await loop.run_in_executor(self._threads, self._search, login)
        except (DirectoryUnavailable, TimeoutError) as error:
            why = str(error) or f"{self._settings.urls[0]}: no answer within {self._settings.timeout_s:g} s"
            if self._breaker.failed(why, self._clock()):
                logger.error("directory is away: %s", why)
            raise DirectoryUnavailable(why) from None
        if self._breaker.succeeded():
            logger.warning("directory is back")
        self._cache.put(login, person, self._clock())
        return person

    def _asked(self, login: str, done: asyncio.Future[Person | None]) -> None:
        del self._asking[login]
        if not done.cancelled():
            done.exception()  # whoever waited has seen it; nobody may have waited to the end

    def _search(self, login: str) -> Person | None:
        """In a worker thread."""
        value = escape_filter_chars(login)
        parts = "".join(f"({name}={value})" for name in self._names.login)
        found = self._sessions.search(f"(|{parts})", self._names.all()) if login else self._sessions.search("", ())
        people = [person for entry in found if (person := person_from(entry, self._names)) is not None]
        # A directory compares more loosely than we do (spaces, accents): only the very name counts.
        people = [person for person in people if login in person.logins]
        if len(people) > 1:
            logger.error("login %r belongs to more than one entry; nobody may use it", login)
        return people[0] if len(people) == 1 else None


class _Sessions:
    """One ldap3 connection per worker thread, to the first URL that works."""

    def __init__(self, settings: LdapSettings) -> None:
        self._settings = settings
        self._own = threading.local()
        self._open: list[Any] = []
        self._lock = threading.Lock()
        self._first = 0  # the URL that worked last
        tls = None
        if settings.start_tls or any(url.startswith("ldaps:") for url in settings.urls):
            tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=settings.ca_file or None)
        self._servers = [
            ldap3.Server(url, get_info=ldap3.NONE, connect_timeout=settings.timeout_s, tls=tls) for url in settings.urls
        ]

    def search(self, filter: str, attributes: tuple[str, ...]) -> list[Entry]:
        """Entries below the base; an empty filter asks whether the base is there. Raises `DirectoryUnavailable`."""
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            try:
                return self._search(connection, filter, attributes)
            except (LDAPException, OSError):
                self._drop(
                    connection
                )  # perhaps only an idle connection that the server closed: once more, on a new one
        connection = self._connect()
        try:
            return self._search(connection, filter, attributes)
        except (LDAPException, OSError) as error:
            self._drop(connection)
            raise DirectoryUnavailable(f"{connection.server.host}:{connection.server.port}: {_short(error)}") from None

    def close(self) -> None:
        """Close every connection; the threads must have ended."""
        for connection in list(self._open):
            self._drop(connection)

    def _search(self, connection: Any, filter: str, attributes: tuple[str, ...]) -> list[Entry]:
        scope = ldap3.SUBTREE if filter else ldap3.BASE
        connection.search(
            self._settings.base, filter or "(objectClass=*)", scope, attributes=list(attributes) or None, size_limit=2
        )
        code = connection.result["result"]
        if code not in (ldap3.core.results.RESULT_SUCCESS, ldap3.core.results.RESULT_SIZE_LIMIT_EXCEEDED):
            raise LDAPException(f"search failed: {connection.result['description']}")
        return [
            {name.lower(): values for name, values in entry["raw_attributes"].items()}
            for entry in connection.response
            if entry["type"] == "searchResEntry"
        ]

    def _connect(self) -> Any:
        """A bound connection to the first server that takes us. Raises `DirectoryUnavailable`."""
        failures = []
        for step in range(len(self._servers)):
            place = (self._first + step) % len(self._servers)
            server = self._servers[place]
            try:
                connection = self._bind(server)
            except (LDAPException, OSError) as error:
                failures.append(f"{server.host}:{server.port}: {_short(error)}")
                continue
            self._first = place
            self._own.connection = connection
            with self._lock:
                self._open.append(connection)
            return connection
        raise DirectoryUnavailable("; ".join(failures))

    def _bind(self, server: Any) -> Any:
        settings = self._settings
        connection = ldap3.Connection(
            server,
            settings.bind_dn or None,
            settings.bind_password or None,
            client_strategy=ldap3.SYNC,
            receive_timeout=math.ceil(settings.timeout_s),  # ldap3 takes whole seconds
            read_only=True,
            check_names=False,
            return_empty_attributes=False,
        )
        if settings.start_tls and not server.ssl:
            connection.open(read_server_info=False)
            connection.start_tls(read_server_info=False)
        if not connection.bind(read_server_info=False):
            why = connection.result["description"]
            connection.unbind()
            raise LDAPException(f"bind as {settings.bind_dn or 'nobody'} refused: {why}")
        return connection

    def _drop(self, connection: Any) -> None:
        if getattr(self._own, "connection", None) is connection:
            self._own.connection = None
        with self._lock:
            if connection in self._open:
                self._open.remove(connection)
        try:
            connection.unbind()
        except (LDAPException, OSError):
            pass


def _short(error: Exception) -> str:
    """The first line of ldap3's wordy exceptions."""
    return str(error).partition("\n")[0][:200] or type(error).__name__
