"""Directory over LDAP (RFC 4511, 4513): ldap3 connects and binds, in a thread; searches go on the event loop.

Failover between URLs, StartTLS and ldaps with the certificate checked, a timeout per look-up, a cache of people and a
shorter one of nobody, and a circuit breaker so that a dead directory costs nothing but a clear refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import ssl
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from radius.entries import Names, person_from
from radius.errors import DirectoryUnavailable, PacketError
from radius.ldapline import Entries, LdapLine, socket_of
from radius.ldapwire import SUCCESS, Search
from radius.ports import Person

with warnings.catch_warnings():
    # ldap3 2.9.1 uses names that pyasn1 0.6 has renamed.
    warnings.filterwarnings("ignore", message=r"\w+Map is deprecated", category=DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import LDAPException
    from ldap3.utils.conv import escape_filter_chars

logger = logging.getLogger(__name__)

MAX_WAITING = 5000  # look-ups in flight; more are refused at once
BUSY = 32  # searches in flight on one connection before another is opened
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
        self._prepared = Search(settings.base, self._names.login, self._names.all())
        self._lines = _Lines(settings)
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
        await self._lines.close()

    async def _ask(self, login: str) -> Person | None:
        self.searches += 1
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._settings.timeout_s * 1.5):
                person = await self._search(login)
        except (DirectoryUnavailable, TimeoutError) as error:
            why = str(error) or f"{self._settings.urls[0]}: no answer within {self._settings.timeout_s:g} s"
            if isinstance(error, TimeoutError):
                self._lines.suspect(started)
            if self._breaker.failed(why, self._clock()):
                logger.error("directory is away: %s", why)
            raise DirectoryUnavailable(why) from None
        if self._breaker.succeeded():
            logger.warning("directory is back")
        if login:
            self._cache.put(login, person, self._clock())
        return person

    def _asked(self, login: str, done: asyncio.Future[Person | None]) -> None:
        del self._asking[login]
        if not done.cancelled():
            done.exception()  # whoever waited has seen it; nobody may have waited to the end

    async def _search(self, login: str) -> Person | None:
        """No login only asks whether the directory is there."""
        if not login:
            await self._lines.search(self._prepared.probe)
            return None
        found = await self._lines.search(functools.partial(self._prepared.request, value=login))
        people = [person for entry in found if (person := person_from(entry, self._names)) is not None]
        # A directory compares more loosely than we do (spaces, accents): only the very name counts.
        people = [person for person in people if login in person.logins]
        if len(people) > 1:
            logger.error("login %r belongs to more than one entry; nobody may use it", login)
        return people[0] if len(people) == 1 else None


class _Lines:
    """Connections on the event loop, opened when needed: one, and more while many searches are in flight."""

    def __init__(self, settings: LdapSettings) -> None:
        self._connections = settings.connections
        self._connector = _Connector(settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ldap")  # ldap3 blocks while it connects and binds
        self._open: list[LdapLine] = []
        self._connecting: asyncio.Task[LdapLine] | None = None

    async def search(self, make: Callable[[int], bytes]) -> Entries:
        """What a search finds. Raises `DirectoryUnavailable`."""
        line = self._pick()
        if line is not None:
            try:
                return await line.search(make)
            except PacketError as error:
                if not line.closed:
                    raise DirectoryUnavailable(f"{line.name}: {error.text}") from None
                # perhaps an idle connection that the server closed: once more, on a new one
        line = self._pick()
        if line is None:
            line = await asyncio.shield(self._connect())
        try:
            return await line.search(make)
        except PacketError as error:
            raise DirectoryUnavailable(f"{line.name}: {error.text}") from None

    def suspect(self, since: float) -> None:
        """A search that began then was not answered: connections that have been silent since may be dead."""
        for line in [line for line in self._open if line.heard_at < since]:
            line.close("no answer for too long")

    async def close(self) -> None:
        """Close every connection."""
        if self._connecting is not None:
            await asyncio.gather(self._connecting, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)
        for line in tuple(self._open):
            line.close()

    def _pick(self) -> LdapLine | None:
        """The connection with the fewest searches in flight; None when there is none yet."""
        if not self._open:
            return None
        line = min(self._open, key=lambda line: line.in_flight) if len(self._open) > 1 else self._open[0]
        if line.in_flight >= BUSY and len(self._open) < self._connections:
            self._connect()
        return line

    def _connect(self) -> asyncio.Task[LdapLine]:
        """A connection to be; several may wait for the same."""
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._open_line(), name="ldap")
            self._connecting.add_done_callback(self._connected)
        return self._connecting

    async def _open_line(self) -> LdapLine:
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(self._thread, self._connector.connect)
        line = LdapLine(
            socket_of(connection),
            name=connection.server.name,
            loop=loop,
            on_closed=lambda line: self._open.remove(line),
        )
        self._open.append(line)
        return line

    def _connected(self, done: asyncio.Task[LdapLine]) -> None:
        self._connecting = None
        if not done.cancelled():
            done.exception()  # whoever waited has seen it; nobody may have waited to the end


class _Connector:
    """Bound connections of ldap3, to the first URL that works."""

    def __init__(self, settings: LdapSettings, *, read_only: bool = True) -> None:
        self._settings = settings
        self._read_only = read_only
        self._first = 0  # the URL that worked last
        secure = settings.start_tls or any(url.startswith("ldaps:") for url in settings.urls)
        self._tls = _CheckedTls(settings.ca_file) if secure else None

    def connect(self) -> Any:
        """A connection to the first server that takes us. Blocks. Raises `DirectoryUnavailable`."""
        failures = []
        urls = self._settings.urls
        for step in range(len(urls)):
            place = (self._first + step) % len(urls)
            try:
                connection = self._bind(urls[place])
            except (LDAPException, OSError) as error:
                failures.append(f"{urls[place]}: {_short(error)}")
                continue
            self._first = place
            return connection
        raise DirectoryUnavailable("; ".join(failures))

    def _bind(self, url: str) -> Any:
        settings = self._settings
        # A new Server each time: an old one hides that its address can no longer be reached.
        server = ldap3.Server(url, get_info=ldap3.NONE, connect_timeout=settings.timeout_s, tls=self._tls)
        connection = ldap3.Connection(
            server,
            settings.bind_dn or None,
            settings.bind_password or None,
            client_strategy=ldap3.SYNC,
            receive_timeout=math.ceil(settings.timeout_s),  # ldap3 takes whole seconds
            read_only=self._read_only,
        )
        try:
            connection.open(read_server_info=False)
            connection.socket.settimeout(settings.timeout_s)
            if settings.start_tls and not server.ssl:
                connection.start_tls(read_server_info=False)
            if not connection.bind(read_server_info=False):
                why = connection.result["description"]
                raise LDAPException(f"bind as {settings.bind_dn or 'nobody'} refused: {why}")
            connection.socket.settimeout(settings.timeout_s)
        except BaseException:
            if connection.socket is not None:  # ldap3 leaves it open
                connection.socket.close()
            raise
        return connection


class Writer:
    """One bound connection that looks entries up and changes them. Every failure is `DirectoryUnavailable`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def entries(
        self, base: str, names: Iterable[str], value: str, wanted: Iterable[str]
    ) -> list[tuple[str, dict[str, list[str]]]]:
        """Entries with this value in one of these attributes: name, and attributes by lower-case name."""
        text = escape_filter_chars(value)
        filter = f"(|{''.join(f'({name}={text})' for name in names)})"
        self._do("search", base, filter, attributes=list(wanted))
        return [
            (
                str(found["dn"]),
                {
                    name.lower(): [each.decode("utf-8", "replace") for each in values]
                    for name, values in found["raw_attributes"].items()
                },
            )
            for found in self._connection.response
            if found["type"] == "searchResEntry"
        ]

    def add_value(self, dn: str, name: str, value: str) -> None:
        """Add one value."""
        self._do("modify", dn, {name: [(ldap3.MODIFY_ADD, [value])]})

    def replace_values(self, dn: str, name: str, *, remove: list[str], add: list[str]) -> None:
        """Remove values and add others, all or none."""
        changes = [(ldap3.MODIFY_DELETE, remove)] if remove else []
        changes += [(ldap3.MODIFY_ADD, add)] if add else []
        if changes:
            self._do("modify", dn, {name: changes})

    def _do(self, what: str, *arguments: Any, **options: Any) -> None:
        name = self._connection.server.name
        try:
            getattr(self._connection, what)(*arguments, **options)
        except LDAPException as error:
            raise DirectoryUnavailable(f"{name}: {_short(error)}") from None
        result = self._connection.result
        if result["result"] != SUCCESS:
            why = f"{result['description']} {result['message']}".strip()
            raise DirectoryUnavailable(f"{name}: {what} refused: {why}")


@contextlib.contextmanager
def open_writer(settings: LdapSettings) -> Iterator[Writer]:
    """A connection to the first server that takes us, for as long as the block runs. Raises `DirectoryUnavailable`."""
    connection = _Connector(settings, read_only=False).connect()
    try:
        yield Writer(connection)
    finally:
        sock = connection.socket
        with contextlib.suppress(LDAPException, OSError):
            connection.unbind()
        if sock is not None:
            sock.close()  # ldap3 leaves it open when the farewell cannot be sent


class _CheckedTls(ldap3.Tls):  # type: ignore[misc]  # ldap3 has no types
    """TLS with the checks of Python's own default context; ldap3's rest on functions that Python has dropped."""

    def __init__(self, ca_file: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = ssl.create_default_context(cafile=ca_file or None)

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Called by ldap3 for ldaps and StartTLS."""
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=connection.server.host, do_handshake_on_connect=do_handshake
        )


def _short(error: Exception) -> str:
    """The first line of ldap3's wordy exceptions."""
    return str(error).partition("\n")[0][:200] or type(error).__name__
