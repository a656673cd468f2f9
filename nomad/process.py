"""The edge as a process: signals, systemd, exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from pathlib import Path

import uvloop

from nomad import config as configuration
from nomad import log, tasks
from nomad.app import Edge
from nomad.config import ConfigError
from nomad.inputs import OTHER_FILES, load_ruleset
from nomad.ports import Unavailable

logger = logging.getLogger(__name__)

GC_THRESHOLDS = (50_000, 20, 50)  # many long-lived transactions: fewer passes over them


def run(path: Path) -> int:
    """Run an edge until SIGTERM; exit code."""
    log.setup()
    try:
        config = configuration.load(path)
        load_ruleset(config)
    except ConfigError as error:
        logger.error("%s", error)
        return 1
    gc.set_threshold(*GC_THRESHOLDS)
    allow_files(config.sip.max_connections + OTHER_FILES)
    return uvloop.run(_run(Edge(config, config_path=path)))


def allow_files(wanted: int) -> None:
    """Raise the limit of open files as far as the system lets us. What is missing then, attackers could use up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        mend = "raise the hard limit (LimitNOFILE) or lower sip.max_connections"
        log.event(logger, "few files", level=logging.WARNING, allowed=allowed, wanted=wanted, mend=mend)


async def _run(edge: Edge) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        await edge.start()
    except (ConfigError, Unavailable) as error:
        logger.error("%s", error)
        return 1
    loop.add_signal_handler(signal.SIGHUP, lambda: tasks.spawn(_reload(edge), name="reload"))
    gc.collect()
    gc.freeze()
    _notify("READY=1")
    await stopping.wait()
    _notify("STOPPING=1")
    await edge.stop()
    return 0


async def _reload(edge: Edge) -> None:
    await edge.reload("signal HUP")


def _notify(state: str) -> None:
    """Tell systemd, when it started us (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.send(state.encode())
