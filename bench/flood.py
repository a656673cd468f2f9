"""A flood of 20,000 packets a second from one banned address while phones register: what is left of the calm rate."""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Event

from bench import blast, cpu
from bench.edge import Nomad
from bench.load import Load, Run
from bench.setting import Result, Setting, spread
from nomad.clock import Clock
from nomad.config import Guard as GuardTable
from nomad.edge.guard import Guard
from nomad.ports import StoredBan
from nomad.sip.events import Flow
from nomad.transport.counters import Counters
from nomad.transport.endpoint import Endpoint
from nomad.transport.udp import UdpSocket
from tests.harness.ports import HOST

ATTACKER = "127.0.0.99"
PACKETS_PER_S = 20_000
REGISTRATIONS_PER_S = 100.0
SLICE_S = 0.005  # packets of so long are sent at once
FAILURES = 3  # refused logins that ban
LIMIT_US = 5.0  # issue 5: Python's time for one packet after receipt
SAMPLES = 50_000


@dataclass(frozen=True, slots=True)
class Sent:
    """What the flood came to."""

    packets: int
    seconds: float


def measure(setting: Setting) -> Result:
    """Registrations calm and under the flood, in turn; CPU of the edge for a packet; Python's time for one."""
    edge = Nomad(setting.folder / "flood", f"{HOST}:5", remember=True, auth_failures=FAILURES)
    load = Load("register", REGISTRATIONS_PER_S, 4.0 if setting.quick else 10.0)
    calm: list[Run] = []
    under: list[Run] = []
    packet_us: list[float] = []
    rates: list[float] = []
    setting.say(f"{PACKETS_PER_S} packets/s from one banned address, {REGISTRATIONS_PER_S:g} registrations/s")
    try:
        _be_banned(edge.port)
        for _ in range(setting.repeats):
            calm.append(setting.caller.run(edge.port, load, edge.groups()))
            run, sent = _flooded(edge.port, lambda: setting.caller.run(edge.port, load, edge.groups()))
            under.append(run)
            rates.append(sent.packets / sent.seconds)
            extra_us = (run.cpu_us["edge"] - calm[-1].cpu_us["edge"]) * run.ok
            packet_us.append(extra_us / max(1.0, rates[-1] * run.wall_s))
    finally:
        edge.stop()
    return {
        "packets_per_s": spread(rates),
        "calm": [run.summary() for run in calm],
        "flood": [run.summary() for run in under],
        "ratio": spread(flooded.carried / still.carried for flooded, still in zip(under, calm, strict=True)),
        "edge_cpu_us_per_packet": spread(packet_us),
        "python_us_per_packet": _python_us(),
        "python_limit_us": LIMIT_US,
    }


def _be_banned(port: int) -> None:
    """Wrong passwords, over nonces that this address was given, until nobody answers any more."""
    phone = blast.Phone(port, 0, host=ATTACKER, password="wrong")
    try:
        for _ in range(FAILURES * 2):
            challenge = phone.send(phone.register())
            if not challenge:
                return
            phone.send(phone.register(phone.answer(challenge)))
        raise RuntimeError(f"{ATTACKER} was not banned")
    finally:
        phone.close()


def _flooded(port: int, work: Callable[[], Run]) -> tuple[Run, Sent]:
    """Work under a flood, which a process of its own sends."""
    context = multiprocessing.get_context("spawn")
    end, mine = context.Event(), context.Pipe()
    sender = context.Process(target=_flood, args=(port, end, mine[1]), daemon=True)
    sender.start()
    mine[0].recv()  # it sends
    try:
        run = work()
    finally:
        end.set()
    sent: Sent = mine[0].recv()
    sender.join()
    return run, sent


def _flood(port: int, end: Event, pipe: multiprocessing.connection.Connection) -> None:
    """Send at the rate; what was missed while others ran is not made up for."""
    packet = blast.Phone(port, 1, host=ATTACKER).register()
    count = int(PACKETS_PER_S * SLICE_S)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((ATTACKER, 0))
        sock.connect((HOST, port))
        pipe.send("begin")
        begin = due = time.monotonic()
        packets = 0
        while not end.is_set():
            for _ in range(count):
                try:
                    sock.send(packet)
                    packets += 1
                except OSError:
                    pass
            due = max(due + SLICE_S, time.monotonic() - SLICE_S)
            time.sleep(max(0.0, due - time.monotonic()))
        pipe.send(Sent(packets, time.monotonic() - begin))


def _python_us() -> dict[str, float]:
    """From the loop's call of `datagram_received` until a packet of a banned address is dropped, in this process."""
    guard = Guard(GuardTable(requests_per_s=1_000_000.0, burst=1_000_000))
    guard.restore([StoredBan(ATTACKER, "auth", 1e9, 60.0)], 0.0)
    endpoint = Endpoint(None, guard, Clock())
    udp = UdpSocket(endpoint._datagram, Counters())
    udp.local = (HOST, 5060)
    packet, source = b"x" * 400, (ATTACKER, 5060)
    assert udp.flow(source) == Flow("udp", udp.local, source)
    rounds = []
    for _ in range(9):
        begin = time.thread_time_ns()
        for _ in range(SAMPLES):
            udp.datagram_received(packet, source)
        rounds.append((time.thread_time_ns() - begin) / 1000 / SAMPLES)
    if guard.dropped != 9 * SAMPLES:
        raise RuntimeError("the guard let packets of a banned address in")
    return {**spread(rounds), "calibration_us": round(cpu.calibrate(), 1)}
