"""`nomad demo`: the whole service on embedded defaults, played by a scripted phone, then open to real ones."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import uvloop
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nomad import config
from nomad.config import Config
from nomad.demo import site
from nomad.demo.pbx import Pbx
from nomad.demo.records import AdminApi, RecordsError
from nomad.demo.steps import PREMIUM, Stage, Step, StepFailed, Steps
from nomad.ports import Unavailable

NOT_RUN = "not run"
NAME_WIDTH = 18
STOP_S = 2.0


class RunningEdge(Protocol):
    """What the demo needs of `nomad.app.Edge`."""

    @property
    def sip_addresses(self) -> Sequence[tuple[str, str, int]]:
        """(transport, host, port) of every listening socket."""

    @property
    def admin_url(self) -> str:
        """Where the admin API is."""

    async def stop(self, *, grace_s: float) -> None:
        """End everything; requests in progress get so much time."""


StartEdge = Callable[[Config], Awaitable[RunningEdge]]


def main(
    *,
    once: bool = False,
    json_output: bool = False,
    port_base: int | None = None,
    people: Path | None = None,
    pbx: str | None = None,
) -> int:
    """Run the demo in its own event loop; the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run_demo(port_base=port_base, once=once, json_output=json_output, people=people, pbx=pbx))
    except KeyboardInterrupt:
        return 130


async def run_demo(
    *,
    port_base: int | None = None,
    once: bool = False,
    json_output: bool = False,
    people: Path | None = None,
    pbx: str | None = None,
    start_edge: StartEdge | None = None,
) -> int:
    """Play the steps, report, and serve on unless `once`; 0 when every step really happened, else 1.

    `people` is another LDIF file, `pbx` the host:port of another PBX in place of the embedded one.
    """
    teller = Teller(json_output=json_output)
    with _warnings() as warnings, tempfile.TemporaryDirectory(prefix="nomad-demo-") as name:
        async with AsyncExitStack() as stack:
            folder = Path(name)
            results: list[Step] = []
            stage = await _start(
                stack,
                teller,
                results,
                folder=folder,
                port_base=port_base,
                people=people,
                pbx=pbx,
                start_edge=start_edge,
            )
            if stage is not None:
                await _play(stage, teller, results)
            ok = all(step.ok for step in results)
            teller.end(results, stage, warnings)
            if ok and not once and stage is not None:
                teller.invite(stage, people)
                await _until_stopped()
            return 0 if ok else 1


async def _start(
    stack: AsyncExitStack,
    teller: Teller,
    results: list[Step],
    *,
    folder: Path,
    port_base: int | None,
    people: Path | None,
    pbx: str | None,
    start_edge: StartEdge | None,
) -> Stage | None:
    """The first step: PBX and edge are up. None when they are not."""

    async def start() -> tuple[Stage, str]:
        ports = site.choose_ports(port_base)
        own = None if pbx else await stack.enter_async_context(_running_pbx(ports.pbx))
        where = pbx or f"{site.HOST}:{ports.pbx}"
        path = await asyncio.to_thread(site.build, folder, ports=ports, pbx=where, people=people)
        edge = await (start_edge or start_real_edge)(config.load(path))
        stack.push_async_callback(edge.stop, grace_s=STOP_S)
        address = next((host, port) for transport, host, port in edge.sip_addresses if transport == "udp")
        if own is not None:
            own.trust(address)
        detail = f"edge at {address[0]}:{address[1]} (udp, tcp), PBX at {where}, directory people.ldif"
        return Stage(address, AdminApi(edge.admin_url), folder / site.DETAIL, own, where), detail

    began = time.perf_counter()
    with teller.running("start"):
        try:
            stage, detail = await start()
        except (OSError, config.ConfigError, Unavailable) as error:
            stage, detail = None, str(error)
    step = Step("start", stage is not None, detail, (time.perf_counter() - began) * 1000)
    results.append(step)
    teller.done(step)
    return stage


async def start_real_edge(configuration: Config) -> RunningEdge:
    """The edge as `nomad run` starts it."""
    from nomad.app import Edge  # loads the whole edge, which printing help for this command does not need

    edge = Edge(configuration)
    await edge.start()
    return edge


@asynccontextmanager
async def _running_pbx(port: int) -> AsyncIterator[Pbx]:
    pbx = Pbx((site.HOST, port))
    await pbx.start()
    try:
        yield pbx
    finally:
        await pbx.stop()


async def _play(stage: Stage, teller: Teller, results: list[Step]) -> None:
    """Run step after step; after the first failure the rest is named as not run, since each builds on the last."""
    steps = Steps(stage)
    await steps.start()
    failed = ""
    try:
        for name, play in steps.all():
            began = time.perf_counter()
            with teller.running(name):
                ok, detail = (False, f"{NOT_RUN}: '{failed}' failed") if failed else await _one(play)
            step = Step(name, ok, detail, (time.perf_counter() - began) * 1000)
            failed = failed or ("" if ok else name)
            results.append(step)
            teller.done(step)
    finally:
        await steps.stop()


async def _one(play: Callable[[], Awaitable[str]]) -> tuple[bool, str]:
    try:
        return True, await play()
    except (StepFailed, RecordsError) as failure:
        return False, str(failure)
    except Exception as error:  # noqa: BLE001 - whatever breaks, the step that broke must be named
        return False, f"{type(error).__name__}: {error}"


async def _until_stopped() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


@contextmanager
def _warnings() -> Iterator[deque[str]]:
    """Keep the last warnings off the screen, to be shown with a failed step."""
    kept: deque[str] = deque(maxlen=10)

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(f"{record.levelname.lower()} {record.name}: {record.getMessage()}")

    keeper = Keeper(logging.WARNING)
    logging.getLogger().addHandler(keeper)
    try:
        yield kept
    finally:
        logging.getLogger().removeHandler(keeper)


class Teller:
    """Says how it goes: lines for people on standard output, or one JSON object and the rest on standard error."""

    def __init__(self, *, json_output: bool) -> None:
        self._json = json_output
        self._out = Console(highlight=False, soft_wrap=True, quiet=json_output)
        self._notes = Console(highlight=False, soft_wrap=True, stderr=True)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Show on a terminal what is in progress."""
        with self._out.status(f"{name} ...") if self._out.is_terminal else _nothing():
            yield

    def done(self, step: Step) -> None:
        """One line per step: verdict, name, time, what was seen."""
        verdict = ("ok    ", "green") if step.ok else ("FAILED", "bold red")
        skipped = step.detail.startswith(NOT_RUN)
        if skipped:
            verdict = ("-     ", "dim")
        took = " " * 11 if skipped else f"{step.ms:8.1f} ms"
        self._out.print(Text.assemble(verdict, "  ", f"{step.name:<{NAME_WIDTH}}", took, "  ", step.detail))

    def end(self, results: Sequence[Step], stage: Stage | None, warnings: Sequence[str]) -> None:
        """The closing words: what failed and why, or the JSON object."""
        failed = next((step for step in results if not step.ok), None)
        if self._json:
            accounted = stage.accounting if stage else None
            found: dict[str, Any] = {
                "ok": failed is None,
                "steps": [
                    {"name": step.name, "ok": step.ok, "detail": step.detail, "ms": round(step.ms, 1)}
                    for step in results
                ],
                "cdrs": stage.cdrs if stage else [],
                "accounting": {
                    "start": accounted.start if accounted else 0,
                    "stop": accounted.stop if accounted else 0,
                },
            }
            print(json.dumps(found, indent=2), flush=True)
        if failed is None:
            self._out.print(f"\nAll {len(results)} steps really happened.")
            return
        self._notes.print(Text.assemble("\nStep ", (f"'{failed.name}'", "bold red"), f" failed: {failed.detail}"))
        for line in warnings:
            self._notes.print(Text(f"  log: {line}", "dim"))

    def invite(self, stage: Stage, people: Path | None) -> None:
        """How to point a real softphone at the demo."""
        out = self._notes if self._json else self._out
        host, port = stage.edge
        out.print(f"\nStill serving. Point any SIP softphone on this machine at it, domain {site.DOMAIN}:\n")
        out.print(f"  outbound proxy   {host}:{port}  (UDP or TCP)")
        out.print(f"  SIP address      USER@{site.DOMAIN}")
        table = Table("user", "password", "extension", "name", "policy group", box=None, pad_edge=False)
        for person in site.read_people(people):
            table.add_row(person.login, person.password, person.extension, person.name, person.group)
        out.print()
        out.print(table)
        out.print("\n  call  1000 echo    2000 tone    4486 busy    3001 to 3005 each other")
        out.print(f"        0123456789 a national number    {PREMIUM} a premium number, refused")
        asking = f"-c {stage.detail.parent}/nomad.toml --user alice --to {PREMIUM}"
        out.print(f"\n  why: nomad policy explain {asking}", soft_wrap=True)
        out.print("\nCtrl-C ends the demo.")


@contextmanager
def _nothing() -> Iterator[None]:
    yield
