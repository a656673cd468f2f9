"""Bans for the packet filter: an nftables set, or a program of the site. Runs beside the loop and never holds it up.

Orders wait in a bounded queue and are carried out one after the other; what fails is logged, counted and forgotten: the
edge drops the packets of banned addresses itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nomad import log
from nomad.config import Guard

logger = logging.getLogger(__name__)

MAX_WAITING = 1000  # orders; more are dropped
MAX_BATCH = 200  # orders in one run of nft
MAX_OUTPUT_CHARS = 300


@dataclass(frozen=True, slots=True)
class Order:
    """One address in or out; `seconds` 0 is out."""

    address: str
    seconds: int = 0


class Firewall:
    """Tells the packet filter of bans, from `start` to `stop`."""

    def __init__(self, table: Guard, *, failed: Callable[[str], None] = lambda why: None) -> None:
        """`failed` hears "firewall" for each run that failed and each order that was dropped."""
        self._table = table
        self._failed = failed
        self._orders: asyncio.Queue[Order] = asyncio.Queue(MAX_WAITING)
        self._worker: asyncio.Task[None] | None = None

    @property
    def on(self) -> bool:
        """Whether the configuration names a set or a program."""
        return bool(self._table.command or self._table.nft_set or self._table.nft_set_v6)

    def start(self) -> None:
        """Begin to carry out orders."""
        if self.on:
            self._worker = asyncio.get_running_loop().create_task(self._work(), name="firewall")

    async def stop(self) -> None:
        """Carry out nothing more; bans in the set end by their timeout."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
            self._worker = None

    def ban(self, address: str, seconds: float) -> None:
        """Drop the packets of an address or network for so long. Returns at once."""
        self._put(Order(address, max(1, math.ceil(seconds))))

    def unban(self, address: str) -> None:
        """Let them in again. Returns at once."""
        self._put(Order(address))

    async def settled(self) -> None:
        """Return when every order so far was carried out, or failed."""
        await self._orders.join()

    def _put(self, order: Order) -> None:
        if self._worker is None:
            return
        try:
            self._orders.put_nowait(order)
        except asyncio.QueueFull:
            self._failed("firewall")

    async def _work(self) -> None:
        while True:
            batch = [await self._orders.get()]
            while not self._table.command and len(batch) < MAX_BATCH and not self._orders.empty():
                batch.append(self._orders.get_nowait())
            try:
                await self._carry_out(batch)
            except Exception:  # whatever it is, the next order must be carried out
                logger.exception("bans were not told to the packet filter")
                self._failed("firewall")
            finally:
                for _ in batch:
                    self._orders.task_done()

    async def _carry_out(self, batch: Sequence[Order]) -> None:
        if self._table.command:
            for order in batch:
                await self._run([*self._table.command, *command_words(order)], "")
            return
        script = nft_script(batch, v4=self._table.nft_set, v6=self._table.nft_set_v6)
        if script:
            await self._run(["nft", "-f", "-"], script)

    async def _run(self, command: Sequence[str], given: str) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            self._complain(command, f"cannot be run: {error.strerror or error}")
            return
        try:
            async with asyncio.timeout(self._table.command_timeout_s):
                output, _ = await process.communicate(given.encode())
        except TimeoutError:
            self._complain(command, f"did not end within {self._table.command_timeout_s:g} s")
            return
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            self._complain(command, f"exit code {process.returncode}: {output.decode(errors='replace')}")

    def _complain(self, command: Sequence[str], why: str) -> None:
        self._failed("firewall")
        log.event(logger, "firewall-failed", level=logging.WARNING, command=command[0], why=why[:MAX_OUTPUT_CHARS])


def command_words(order: Order) -> list[str]:
    """The arguments that a program gets."""
    return ["ban", order.address, str(order.seconds)] if order.seconds else ["unban", order.address]


def nft_script(orders: Sequence[Order], *, v4: str, v6: str) -> str:
    """What nft reads: one transaction. An element keeps its first timeout when it is added again, so it goes first."""
    lines = []
    for order in orders:
        name = v6 if ":" in order.address else v4
        if not name:
            continue
        bare = f"element {name} {{ {order.address} }}"
        lines += [f"add {bare}", f"delete {bare}"]
        if order.seconds:
            lines.append(f"add element {name} {{ {order.address} timeout {order.seconds}s }}")
    return "".join(f"{line}\n" for line in lines)
