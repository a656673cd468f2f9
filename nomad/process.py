"""The edge as a process: signals, systemd, exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from pathlib import Path

import uvloop

from nomad import config as configuration
from nomad import log, tasks
from nomad.app import Edge
from nomad.config import ConfigError
from nomad.inputs import load_ruleset
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
    return uvloop.run(_run(Edge(config, config_path=path)))


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
