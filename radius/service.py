"""The server as a service: in this process, or as a child that an edge starts and that can never stall it.

The parent binds the sockets and the child inherits them: a child that dies is replaced while requests wait in the
sockets' buffers. The child ends when its standard input ends, also when the parent is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from radius.accounting import AccountingHandler
from radius.config import ClientTable, Config, split_address, urls
from radius.detail import DetailFile
from radius.errors import ConfigError
from radius.handler import DirectoryHandler
from radius.intake import Intake
from radius.ldif import LdifDirectory
from radius.ledger import BatchLedger
from radius.packet import Code
from radius.ports import Directory
from radius.radsec import RadsecListener
from radius.server import Server

if TYPE_CHECKING:
    from radius.ldap import LdapSettings

logger = logging.getLogger(__name__)

READY = b"ready\n"
ROOT = str(Path(__file__).resolve().parent.parent)
START_S = 20.0
STOP_S = 5.0
RESTART_S = (0.05, 2.0)  # first and longest pause before a child that died is replaced


def open_directory(config: Config) -> Directory:
    """The directory that the configuration names. Raises `ConfigError`."""
    found = urls(config.directory)
    names = config.directory.attributes.names()
    if len(found) == 1 and found[0].startswith("file:"):
        return LdifDirectory(config.path(found[0].removeprefix("file:")), names)
    if found and all(url.startswith(("ldap://", "ldaps://")) for url in found):
        from radius.ldap import LdapDirectory  # an LDIF file needs no ldap3

        return LdapDirectory(ldap_settings(config), names)
    raise ConfigError("directory.url: write 'file:people.ldif', or one or more of 'ldap://host:port', 'ldaps://...'")


def ldap_settings(config: Config, *, bind_dn: str = "", bind_password: str = "") -> LdapSettings:
    """How the configured LDAP directory is reached, as the configured account or another. Raises `ConfigError`."""
    from radius.ldap import LdapSettings

    table = config.directory
    if not bind_dn:
        bind_password = config.secret(table.bind_password_file, "NOMAD_DIRECTORY_PASSWORD").decode()
    return LdapSettings(
        urls=urls(table),
        base=table.base,
        bind_dn=bind_dn or table.bind_dn,
        bind_password=bind_password,
        start_tls=table.start_tls,
        ca_file=str(config.path(table.ca_file)) if table.ca_file else "",
        timeout_s=table.timeout_s,
        connections=table.connections,
        cache_s=table.cache_s,
        negative_cache_s=table.negative_cache_s,
    )


def open_ledgers(config: Config) -> list[BatchLedger]:
    """Where accounting goes by the configuration; nothing is written yet. Raises `ConfigError`."""
    ledgers = []
    if config.detail:
        ledgers.append(BatchLedger(DetailFile(config.path(config.detail), sync=config.detail_sync)))
    if config.sql:
        from radius.radacct import SqlBook  # a file needs no SQLAlchemy

        password = config.secret(config.sql_password_file, "NOMAD_ACCOUNTING_PASSWORD").decode()
        ledgers.append(BatchLedger(SqlBook(config.sql_url(), password=password)))
    return ledgers


def bind(host: str, port: int) -> socket.socket:
    """A bound UDP socket; port 0 lets the system choose. Raises `ConfigError`."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except (OSError, ValueError) as error:
        raise ConfigError(f"listen: {host}:{port}: {error}") from None
    try:
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(f"listen: {host}:{port}: {error}") from None
    return sock


class Service:
    """Both roles of the server over one directory, in this process and event loop."""

    def __init__(self, config: Config, *, auth: socket.socket | None = None, acct: socket.socket | None = None) -> None:
        """Takes over bound sockets, else binds those of the configuration. Raises `ConfigError`."""
        self._config = config
        clients = config.clients()
        self._directory = open_directory(config)
        self._ledgers = open_ledgers(config)
        handler = DirectoryHandler(self._directory, rules=config.rules())
        bookkeeper = AccountingHandler(self._ledgers)
        self._sockets = (
            auth or bind(*split_address(config.listen.auth)),
            acct or bind(*split_address(config.listen.acct)),
        )
        self.auth = Server(clients, handler, codes=[Code.ACCESS_REQUEST], status_code=Code.ACCESS_ACCEPT)
        self.acct = Server(clients, bookkeeper, codes=[Code.ACCOUNTING_REQUEST], status_code=Code.ACCOUNTING_RESPONSE)
        self._radsec_at = split_address(config.listen.radsec) if config.listen.radsec else None
        self._radsec_tls = config.server_tls() if config.listen.radsec else None
        roles: dict[int, Intake] = {
            Code.ACCESS_REQUEST: self.auth,
            Code.STATUS_SERVER: self.auth,
            Code.ACCOUNTING_REQUEST: self.acct,
        }
        self._radsec = RadsecListener(config.clients(radsec=True), roles, names=config.certificate_names())
        self.radsec_address = ("", 0)

    @property
    def addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Where authentication and accounting are served."""
        return _address(self._sockets[0]), _address(self._sockets[1])

    async def start(self) -> None:
        """Begin to serve."""
        await self.auth.start(self._sockets[0])
        await self.acct.start(self._sockets[1])
        if self._radsec_at is not None and self._radsec_tls is not None:
            self.radsec_address = await self._radsec.start(*self._radsec_at, self._radsec_tls)

    def renew(self) -> None:
        """Take up certificates whose files were replaced. Raises `ConfigError`: then nothing changed."""
        if self._radsec_tls is not None:
            self._config.renew(self._radsec_tls)

    async def close(self) -> None:
        """Stop serving, store what is left."""
        await self._radsec.close()
        await self.auth.close()
        await self.acct.close()
        for ledger in self._ledgers:
            await ledger.close()
        await self._directory.close()


class EmbeddedServer:
    """A RADIUS server of our own in a child process, on loopback, with a secret that nobody else knows."""

    def __init__(self, config: Config, *, host: str = "127.0.0.1", digest_ha1: bool = False) -> None:
        """The directory, domains and answers of `config` are used; its clients and listen addresses are not.

        `digest_ha1`: tell the edge the HA1 of whom it let in, so that it can check the next proof itself.
        """
        self.secret = secrets.token_hex(24).encode()
        client = ClientTable(address=host, name="edge", digest_ha1=digest_ha1)
        self._config = msgspec.structs.replace(config, client=(client,))
        self._sockets = (bind(host, 0), bind(host, 0))
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def auth(self) -> tuple[str, int]:
        """Where authentication is served."""
        return _address(self._sockets[0])

    @property
    def acct(self) -> tuple[str, int]:
        """Where accounting is served."""
        return _address(self._sockets[1])

    @property
    def pid(self) -> int:
        """The child's process id, 0 when there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start the child and wait until it serves. Raises `ConfigError` when it cannot."""
        self._process = await self._launch()
        self._keeper = asyncio.create_task(self._keep(), name="embedded RADIUS server")

    async def stop(self) -> None:
        """End the child, kindly at first."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._process is not None:
            await _end(self._process)
            self._process = None
        for sock in self._sockets:
            sock.close()

    async def _launch(self) -> asyncio.subprocess.Process:
        descriptors = [sock.fileno() for sock in self._sockets]
        paths = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "NOMAD_RADIUS_SECRET": self.secret.decode(),
            "PYTHONPATH": os.pathsep.join(paths),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "radius",
            "--embedded",
            *map(str, descriptors),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C at a terminal is for the edge, which then stops its child
            env=environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        # The pipe stays open: its end is how the child learns that we are gone.
        process.stdin.write(msgspec.json.encode(self._config) + b"\n")
        try:
            async with asyncio.timeout(START_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b"did not start in time"
        except BaseException:
            await _end(process)
            raise
        if line != READY:
            await _end(process)
            raise ConfigError(f"embedded RADIUS server: {line.decode(errors='replace').strip() or 'ended at once'}")
        return process

    async def _keep(self) -> None:
        """Replace the child whenever it dies."""
        pause, longest = RESTART_S
        while True:
            assert self._process is not None
            code = await self._process.wait()
            logger.error("embedded RADIUS server ended with %d; starting another", code)
            started = False
            while not started:
                await asyncio.sleep(pause)
                pause = min(pause * 2, longest)
                try:
                    self._process = await self._launch()
                    started = True
                except (ConfigError, OSError) as error:
                    logger.error("%s", error)
            self.restarts += 1


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    # Without this, asyncio complains of an unclosed transport when the loop ends first.
    process._transport.close()  # type: ignore[attr-defined]


def _address(sock: socket.socket) -> tuple[str, int]:
    name = sock.getsockname()
    return str(name[0]), int(name[1])
