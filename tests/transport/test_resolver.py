"""RFC 3263 against a small name server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from nomad.clock import Clock
from nomad.ports import Target, Unavailable
from nomad.sip.uri import Uri
from nomad.transport.resolver import NEGATIVE_S, PAUSE_S, STALE_S, DnsResolver, _Srv, order_srv

ZONE = {
    ("both.example", "NAPTR"): [
        '20 10 "s" "SIP+D2U" "" _sip._udp.both.example.',
        '10 10 "s" "SIPS+D2T" "" _sips._tcp.both.example.',
        '5 10 "s" "SIP+D2S" "" _sip._sctp.both.example.',
        '5 10 "a" "SIP+D2T" "" one.example.',
    ],
    ("_sip._udp.both.example", "SRV"): ["2 0 5070 two.example.", "1 0 5060 one.example."],
    ("_sips._tcp.both.example", "SRV"): ["1 0 5061 one.example."],
    ("srv.example", "A"): ["192.0.2.99"],
    ("_sip._tcp.srv.example", "SRV"): ["1 0 5080 one.example."],
    ("off.example", "A"): ["192.0.2.98"],
    ("_sip._udp.off.example", "SRV"): ["0 0 0 ."],
    ("one.example", "A"): ["192.0.2.1"],
    ("one.example", "AAAA"): ["2001:db8::1"],
    ("two.example", "A"): ["192.0.2.2"],
    ("six.example", "AAAA"): ["2001:db8::6"],
    ("many.example", "A"): [f"192.0.2.{number}" for number in range(1, 60)],
}


class NameServer(asyncio.DatagramProtocol):
    """Answers from ZONE and counts the questions."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, str]] = []
        self.silent = False
        self.broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        name, kind = query.question[0].name.to_text(True).lower(), dns.rdatatype.to_text(query.question[0].rdtype)
        self.questions.append((name, kind))
        if self.silent:
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif records := ZONE.get((name, kind)):
            response.answer.append(dns.rrset.from_text_list(query.question[0].name, 60, "IN", kind, records))
        elif not any(each == name for each, _ in ZONE):
            response.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(response.to_wire(max_size=4096), addr)  # type: ignore[attr-defined]  # a datagram one


class StoppedClock(Clock):
    """Moves when it is told to."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Made:
    def __init__(self, server: NameServer, port: int) -> None:
        self.server = server
        self.port = port
        self.clock = StoppedClock()
        self.resolver = self.make()

    def make(self, **options: object) -> DnsResolver:
        settings: dict[str, object] = {"timeout_s": 2.0, **options}
        return DnsResolver(self.clock, nameservers=[("127.0.0.1", self.port)], **settings)  # type: ignore[arg-type]  # passed on

    async def ask(self, uri: str) -> list[tuple[str, str, int, str]]:
        return brief(await self.resolver.resolve(Uri.parse(uri)))


def brief(targets: Sequence[Target]) -> list[tuple[str, str, int, str]]:
    return [(target.transport, target.host, target.port, target.name) for target in targets]


@pytest.fixture
async def dns_(request: pytest.FixtureRequest) -> AsyncIterator[Made]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    yield Made(server, transport.get_extra_info("sockname")[1])
    transport.close()


ONE = ("192.0.2.1", "2001:db8::1")


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:192.0.2.5", ("udp", "192.0.2.5", 5060, "")),
        ("sip:x@192.0.2.5:5070;transport=tcp", ("tcp", "192.0.2.5", 5070, "")),
        ("sip:[2001:db8::5]", ("udp", "2001:db8::5", 5060, "")),
        ("sips:192.0.2.5", ("tls", "192.0.2.5", 5061, "192.0.2.5")),
        ("sip:one.example;maddr=192.0.2.7", ("udp", "192.0.2.7", 5060, "")),
    ],
)
async def test_an_address_needs_no_question(dns_: Made, uri: str, target: tuple[str, str, int, str]) -> None:
    assert await dns_.ask(uri) == [target]
    assert dns_.server.questions == []


async def test_a_port_means_addresses_only(dns_: Made) -> None:
    assert await dns_.ask("sip:both.example:5099;transport=tcp;maddr=one.example") == [
        ("tcp", host, 5099, "") for host in ONE
    ]
    assert {kind for _, kind in dns_.server.questions} == {"A", "AAAA"}


async def test_naptr_says_the_order(dns_: Made) -> None:
    assert await dns_.ask("sip:both.example") == [
        *[("tls", host, 5061, "both.example") for host in ONE],
        *[("udp", host, 5060, "") for host in ONE],
        ("udp", "192.0.2.2", 5070, ""),
    ]


async def test_sips_takes_tls_only(dns_: Made) -> None:
    assert await dns_.ask("sips:both.example") == [("tls", host, 5061, "both.example") for host in ONE]


async def test_a_wished_transport_skips_naptr(dns_: Made) -> None:
    assert await dns_.ask("sip:both.example;transport=udp") == [
        *[("udp", host, 5060, "") for host in ONE],
        ("udp", "192.0.2.2", 5070, ""),
    ]
    assert "NAPTR" not in {kind for _, kind in dns_.server.questions}


async def test_transports_that_we_do_not_speak_are_passed_over(dns_: Made) -> None:
    dns_.resolver = dns_.make(transports=("udp",), families=(4,))
    assert await dns_.ask("sip:both.example") == [("udp", "192.0.2.1", 5060, ""), ("udp", "192.0.2.2", 5070, "")]
    for uri in ("sip:both.example;transport=tcp", "sip:x.example;transport=sctp", "sips:x.example;transport=udp"):
        with pytest.raises(Unavailable, match="not spoken"):
            await dns_.ask(uri)


async def test_srv_without_naptr(dns_: Made) -> None:
    assert await dns_.ask("sip:srv.example") == [("tcp", host, 5080, "") for host in ONE]


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:two.example", ("udp", "192.0.2.2", 5060, "")),
        ("sip:TWO.example.", ("udp", "192.0.2.2", 5060, "")),
        ("sip:six.example", ("udp", "2001:db8::6", 5060, "")),
        ("sips:two.example", ("tls", "192.0.2.2", 5061, "two.example")),
        ("sip:two.example;transport=tls", ("tls", "192.0.2.2", 5061, "two.example")),
    ],
)
async def test_addresses_of_the_domain_itself(dns_: Made, uri: str, target: tuple[str, str, int, str]) -> None:
    assert await dns_.ask(uri) == [target]


async def test_a_service_that_is_decidedly_not_there(dns_: Made) -> None:
    with pytest.raises(Unavailable, match=r"no SIP server for off\.example"):
        await dns_.ask("sip:off.example")


async def test_too_many_answers_are_cut(dns_: Made) -> None:
    assert len(await dns_.ask("sip:many.example")) == 16


async def test_a_failure_is_remembered_for_a_while(dns_: Made) -> None:
    dns_.resolver._dns.cache = None
    with pytest.raises(Unavailable, match="knows no SIP server"):
        await dns_.ask("sip:nobody.example")
    asked = len(dns_.server.questions)
    with pytest.raises(Unavailable, match="knows no SIP server"):
        await dns_.ask("sip:nobody.example")
    assert len(dns_.server.questions) == asked
    dns_.clock.now += NEGATIVE_S + 1
    with pytest.raises(Unavailable):
        await dns_.ask("sip:nobody.example")
    assert len(dns_.server.questions) > asked


async def test_answers_are_cached(dns_: Made) -> None:
    await dns_.ask("sip:two.example:5060")
    asked = len(dns_.server.questions)
    await dns_.ask("sip:two.example:5060")
    assert len(dns_.server.questions) == asked


async def test_a_silent_name_server(dns_: Made) -> None:
    dns_.resolver = dns_.make(timeout_s=0.05)
    dns_.server.silent = True
    with pytest.raises(Unavailable, match="did not answer"):
        await dns_.ask("sip:two.example")
    dns_.server.silent = False
    dns_.resolver = dns_.make()
    assert await dns_.ask("sip:two.example")


async def test_a_broken_name_server(dns_: Made) -> None:
    dns_.server.broken = True
    with pytest.raises(Unavailable, match="did not answer"):
        await dns_.ask("sip:two.example")


@pytest.mark.parametrize("uri", ["tel:+33123456789", "mailto:x@y"])
async def test_what_has_no_host(dns_: Made, uri: str) -> None:
    with pytest.raises(Unavailable, match="no host"):
        await dns_.ask(uri)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", ".".join(["y" * 60] * 6)])
async def test_names_that_no_dns_can_hold(dns_: Made, host: str) -> None:
    with pytest.raises(Unavailable):
        await dns_.ask(f"sip:{host}")


def test_srv_order_by_priority_then_by_weight() -> None:
    records = [_Srv(2, 0, 1, "late"), _Srv(1, 10, 1, "light"), _Srv(1, 90, 1, "heavy"), _Srv(1, 0, 1, "zero")]

    def names(draw: float) -> list[str]:
        return [record.host for record in order_srv(records, lambda low, high: draw * high)]

    assert names(0.0) == ["zero", "light", "heavy", "late"]
    assert names(0.05) == ["light", "heavy", "zero", "late"]
    assert names(1.0) == ["heavy", "light", "zero", "late"]


async def test_what_the_dns_said_serves_while_it_is_silent(dns_: Made) -> None:
    dns_.resolver = dns_.make(timeout_s=0.05)
    dns_.resolver._dns.cache = None
    known = await dns_.ask("sip:srv.example")
    dns_.server.silent = True
    assert await dns_.ask("sip:srv.example") == known
    asked = len(dns_.server.questions)
    assert await dns_.ask("sip:srv.example") == known
    assert len(dns_.server.questions) == asked  # nobody waits again so soon
    dns_.clock.now += PAUSE_S + 1
    assert await dns_.ask("sip:srv.example") == known
    assert len(dns_.server.questions) > asked
    with pytest.raises(Unavailable, match="did not answer"):
        await dns_.ask("sip:two.example")
    dns_.clock.now += STALE_S
    with pytest.raises(Unavailable, match="did not answer"):
        await dns_.ask("sip:srv.example")


async def test_what_the_dns_denies_does_not_serve_on(dns_: Made) -> None:
    dns_.resolver._dns.cache = None
    await dns_.ask("sip:two.example")
    address = ZONE.pop(("two.example", "A"))
    try:
        with pytest.raises(Unavailable, match="knows no SIP server"):
            await dns_.ask("sip:two.example")
        dns_.server.silent = True
        with pytest.raises(Unavailable):
            await dns_.ask("sip:two.example")
    finally:
        ZONE["two.example", "A"] = address
