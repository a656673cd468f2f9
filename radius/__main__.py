"""`python -m radius -c radius.toml`: the RADIUS server on its own; also what an edge starts as its child.

SIGHUP reads certificates again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import msgspec
import uvloop

from radius.config import Config, load
from radius.errors import ConfigError
from radius.service import READY, Service, open_ledgers

logger = logging.getLogger("radius")


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or, as a child, the end of standard input. 1: the configuration is wrong."""
    parser = argparse.ArgumentParser(prog="python -m radius", description="RADIUS server over an LDIF file or LDAP.")
    parser.add_argument("-c", "--config", type=Path, default=Path("radius.toml"))
    parser.add_argument("--check", action="store_true", help="check the configuration and end")
    parser.add_argument("--embedded", nargs=2, type=int, metavar=("AUTH", "ACCT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    level = logging.WARNING if options.embedded else logging.INFO  # the edge says itself whom it let in
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        service = _embedded(*options.embedded) if options.embedded else None
        if service is None:
            config = load(options.config)
            if options.check:
                open_ledgers(config)
                return 0
            service = Service(config)
    except ConfigError as error:
        print(error, file=sys.stdout if options.embedded else sys.stderr, flush=True)
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(service, embedded=bool(options.embedded)))
    return 0


def _embedded(auth: int, acct: int) -> Service:
    """Configuration from the first line of standard input, sockets from the parent."""
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=Config)
    return Service(config, auth=socket.socket(fileno=auth), acct=socket.socket(fileno=acct))


async def _serve(service: Service, *, embedded: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _renew, service)
    await service.start()
    if embedded:
        threading.Thread(target=_watch_parent, args=(loop, stop), daemon=True).start()
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
    else:
        (host, port), (_, acct_port) = service.addresses
        logger.info("authentication at %s:%d, accounting at port %d", host, port, acct_port)
    await stop.wait()
    await service.close()


def _renew(service: Service) -> None:
    """SIGHUP: certificates that were replaced, for connections from now on."""
    try:
        service.renew()
        logger.info("certificates were read again")
    except ConfigError as error:
        logger.error("certificates stay as they were: %s", error)


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Standard input ends when the parent does, however it ended."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    sys.exit(main())
