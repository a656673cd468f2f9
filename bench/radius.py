"""What RADIUS costs: client per exchange, our server per digest check, durable accounting; and what latency does."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench import cpu, people
from bench.delay import highest, nomad
from bench.setting import PEOPLE, Result, Setting, spread
from bench.stack import ROOT, SECRET, DelayProxy, FreeRadius, Pbx, Slapd
from nomad.aaa import RadiusAccounting, RadiusAuthenticator
from nomad.cli.login import make_proof
from nomad.clock import Clock
from nomad.edge.verdicts import Trust, Verdicts
from nomad.metrics import Metrics
from nomad.ports import AccountingRecord, Grant, Proof, Refusal, Vouched
from nomad.stores.spool import SqliteSpool
from radius.client import Pool, Server, Settings
from radius.digest import make_ha1
from tests.harness.ports import HOST, free_port
from tests.harness.processes import Process

# Issue 4: at most so many microseconds, at least so many a second
CLIENT_US, WARM_PER_S, COLD_PER_S, RECORDS_PER_S = 100.0, 2500.0, 1000.0, 1000.0
AT_ONCE = 100  # requests in flight
LATENCY_S = 0.050
DIRECTORIES = {
    "ldif": 'url = "file:people.ldif"\n',
    "ldap, warm cache": "cache_s = 3600.0\n",
    "ldap, uncached": "cache_s = 0.0\nnegative_cache_s = 0.0\n",
}
LDAP = 'url = "ldap://{host}:{port}"\nbase = "ou=people,{base}"\nbind_dn = "{dn}"\nbind_password_file = "ldap.secret"\n'
CONFIG = """\
domains = ["{realm}"]
detail = "detail.jsonl"
[listen]
auth = "{host}:{auth}"
acct = "{host}:{acct}"
[[client]]
address = "{host}"
secret_file = "radius.secret"
digest_ha1 = true
[directory]
{directory}attributes = {{ groups = "employeeType" }}
"""
Work = Callable[[int], Awaitable[object]]


class Radius:
    """`python -m radius` over an LDIF file or a slapd."""

    def __init__(self, folder: Path, directory: str, slapd: Slapd | None) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.auth_port, self.acct_port = free_port(), free_port()
        text = DIRECTORIES[directory]
        if slapd is None:
            people.write_ldif(folder / "people.ldif", PEOPLE)
        else:
            text = LDAP.format(host=HOST, port=slapd.port, base=people.BASE, dn=people.SERVICE_DN) + text
            (folder / "ldap.secret").write_text(people.SERVICE_PASSWORD)
        (folder / "radius.secret").write_text(SECRET)
        (folder / "radius.toml").write_text(
            CONFIG.format(realm=people.REALM, host=HOST, auth=self.auth_port, acct=self.acct_port, directory=text)
        )
        command = [sys.executable, "-m", "radius", "-c", folder / "radius.toml"]
        environment = {"PYTHONPATH": str(ROOT)}
        self.process = Process("radius", command, log=folder / "radius.log", cwd=folder, env=environment)
        self.process.wait_ready(lambda: "authentication at" in self.process.output())

    def pool(self, kind: str = "auth") -> Pool:
        """A client of it."""
        port = self.auth_port if kind == "auth" else self.acct_port
        return Pool([Server(HOST, port, SECRET.encode())], Settings(timeout_s=10.0), kind=kind)

    def cpu_ns(self) -> int:
        """CPU time of the server so far."""
        return cpu.cpu_ns([self.process.pid])

    def stop(self) -> None:
        """End it."""
        self.process.stop()


@dataclass(frozen=True, slots=True)
class Cost:
    """What so many operations took."""

    count: int
    wall_s: float
    client_us: float
    server_us: float
    ldap_us: float = 0.0


def measure(setting: Setting) -> Result:
    """All of it; the limits stand beside."""
    folder = setting.folder / "radius"
    folder.mkdir()
    slapd = Slapd(folder / "slapd", PEOPLE)
    try:
        result: Result = {"limits": {"client_us": CLIENT_US, "warm_per_s": WARM_PER_S, "cold_per_s": COLD_PER_S}}
        result["checks"] = {name: _checks(setting, folder, name, slapd) for name in DIRECTORIES}
        result["accounting"] = _accounting(setting, folder)
        result["remembered_us"] = uvloop.run(_remembered())
        result["latency"] = _latency(setting, folder, slapd)
    finally:
        slapd.process.stop()
    result["calibration_us"] = cpu.calibrate()
    return result


def _checks(setting: Setting, folder: Path, name: str, slapd: Slapd) -> Result:
    """Digest checks of all people, once to warm up and then measured."""
    setting.say(f"digest checks, {name}")
    server = Radius(folder / name.replace(", ", "-").replace(" ", "-"), name, None if name == "ldif" else slapd)
    try:
        costs = uvloop.run(_ask_all(server, slapd, setting.repeats))
    finally:
        server.stop()
    server_us = spread(cost.server_us for cost in costs)
    return {
        "server_us": server_us,
        "per_s_and_core": round(1e6 / server_us["median"]),
        "client_us": spread(cost.client_us for cost in costs),
        "slapd_us": spread(cost.ldap_us for cost in costs),
        "per_s_here": spread(cost.count / cost.wall_s for cost in costs),
    }


async def _ask_all(server: Radius, slapd: Slapd, repeats: int) -> list[Cost]:
    pool = server.pool()
    authenticator = RadiusAuthenticator(pool, take_ha1=True)
    proofs = [
        make_proof(people.login(number), people.password(number), realm=people.REALM, algorithm="MD5")
        for number in range(PEOPLE)
    ]

    async def check(number: int) -> None:
        if not isinstance(await authenticator.check(proofs[number]), Grant):
            raise RuntimeError(f"{proofs[number].username} was refused")

    await pool.start()
    costs = [await _cost(check, len(proofs), server, [slapd.process.pid]) for _ in range(repeats + 1)]
    await pool.close()
    return costs[1:]


async def _cost(work: Work, count: int, server: Radius, ldap: Iterable[int] = ()) -> Cost:
    """Do a piece of work so often, so many at once."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    before = server.cpu_ns(), cpu.cpu_ns(ldap)
    began, client = time.perf_counter(), time.process_time_ns()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    client_ns, wall_s = time.process_time_ns() - client, time.perf_counter() - began
    return Cost(
        count,
        wall_s,
        client_us=client_ns / 1000 / count,
        server_us=(server.cpu_ns() - before[0]) / 1000 / count,
        ldap_us=(cpu.cpu_ns(ldap) - before[1]) / 1000 / count,
    )


def _accounting(setting: Setting, folder: Path) -> Result:
    """Records a second that survive a power failure: in the edge's spool, and acknowledged by our server."""
    setting.say("durable accounting records")
    server = Radius(folder / "accounting", "ldif", None)
    try:
        spool, cost = uvloop.run(_account(server, folder / "spool.db"))
    finally:
        server.stop()
    written = len((server.folder / "detail.jsonl").read_text().splitlines())
    if written != cost.count:
        raise RuntimeError(f"{cost.count} records were acknowledged, {written} are on file")
    return {
        "limit_per_s": RECORDS_PER_S,
        "spool_per_s": round(spool),
        "server_per_s": round(cost.count / cost.wall_s),
        "server_us": round(cost.server_us, 1),
        "client_us": round(cost.client_us, 1),
    }


async def _account(server: Radius, path: Path, count: int = 5000) -> tuple[float, Cost]:
    spool = SqliteSpool(path)
    await spool.open()
    numbers = iter(range(count))

    async def keep() -> None:
        for number in numbers:
            await spool.append([_record(number)])

    began = time.perf_counter()
    await asyncio.gather(*(keep() for _ in range(AT_ONCE)))
    rate = count / (time.perf_counter() - began)
    await spool.close()
    pool = server.pool("acct")
    await pool.start()
    sink = RadiusAccounting(pool)
    cost = await _cost(lambda number: sink.send(_record(number)), count, server)
    await pool.close()
    return rate, cost


def _record(number: int) -> AccountingRecord:
    session = f"bench-{number // 2}"
    status = "Stop" if number % 2 else "Start"
    attributes: tuple[tuple[str, str | int | bytes], ...] = (
        ("Calling-Station-Id", "sip:u00001@inria.example"),
        ("Called-Station-Id", "sip:6000@inria.example"),
        ("Nomad-SIP-Call-Id", f"{number}@127.0.0.1"),
        ("Acct-Session-Time", number),
    )
    return AccountingRecord(f"{session}-{status}", session, status, people.login(1), time.time(), attributes)


async def _remembered(count: int = 5000) -> float:
    """CPU microseconds of a login that is checked by the edge from a remembered verdict."""
    ha1 = make_ha1("MD5", people.login(0), people.REALM, people.password(0))

    class Trusting:
        async def vouch(self, proof: Proof) -> Vouched | Refusal:
            return Vouched(Grant(proof.username), ha1)

    verdicts = Verdicts(Trusting(), Trust(300, 300), clock=Clock(), metrics=Metrics())
    proof = make_proof(people.login(0), people.password(0), realm=people.REALM, algorithm="MD5")
    await verdicts.check(proof)
    began = time.process_time_ns()
    for _ in range(count):
        await verdicts.check(proof)
    return round((time.process_time_ns() - began) / 1000 / count, 1)


def _latency(setting: Setting, folder: Path, slapd: Slapd) -> Result:
    """The highest clean rate of registrations, each with a trip to RADIUS, without latency and with it."""
    (setting.folder / "delay").mkdir(exist_ok=True)
    freeradius = FreeRadius(folder / "freeradius", slapd)
    pbx = Pbx(folder / "pbx")
    rates = {}
    try:
        for delay_s in (0.0, LATENCY_S):
            proxy = DelayProxy(folder / "proxy", freeradius, delay_s)
            try:
                rates[delay_s] = highest(setting, nomad(setting, proxy, pbx), "register", 600.0)
            finally:
                proxy.stop()
            setting.say(f"registrations with {delay_s * 1000:g} ms of RADIUS latency: {rates[delay_s]:.0f}/s")
    finally:
        pbx.stop()
        freeradius.process.stop()
    return {
        "registrations_per_s": {f"{delay_s * 1000:g} ms": round(rate) for delay_s, rate in rates.items()},
        "ratio": round(rates[LATENCY_S] / rates[0.0], 2) if rates[0.0] else 0.0,
    }
