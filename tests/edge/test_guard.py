import pytest

from nomad.config import Guard as GuardTable
from nomad.edge.guard import LONGEST_BAN_S, Guard, check_sanity, is_scanner
from nomad.sip.errors import Reject
from nomad.sip.message import Request, parse_message

PEER = "198.51.100.9"


def request(text: str = "INVITE sip:1000@inria.example SIP/2.0", *headers: str) -> Request:
    lines = [
        text,
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx",
        "From: <sip:a@inria.example>;tag=1",
        "To: <sip:b@inria.example>",
        "Call-ID: 1",
        f"CSeq: 1 {text.split()[0]}",
        *headers,
    ]
    message = parse_message(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert isinstance(message, Request)
    return message


def test_more_than_the_rate_is_dropped_and_comes_back_with_time() -> None:
    guard = Guard(GuardTable(requests_per_s=10, burst=5))
    assert [guard.admits(PEER, 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert guard.admits(PEER, 0.1)
    assert not guard.admits(PEER, 0.1)
    assert guard.admits("203.0.113.1", 0.1)
    assert guard.dropped == 2


def test_trusted_addresses_are_never_limited() -> None:
    guard = Guard(GuardTable(requests_per_s=1, burst=1), exempt=("192.0.2.0/24",))
    assert all(guard.admits("192.0.2.5", 0.0) for _ in range(100))


def test_enough_refused_logins_ban_and_each_ban_is_longer() -> None:
    bans: list[tuple[str, str, float]] = []
    table = GuardTable(auth_failures=3, ban_s=60, window_s=60)
    guard = Guard(table, on_ban=lambda *ban: bans.append(ban))
    for now in (0.0, 1.0, 2.0):
        assert guard.admits(PEER, now)
        guard.strike(PEER, "auth", now)
    assert not guard.admits(PEER, 3.0)
    assert [view.address for view in guard.bans(3.0, 1000.0)] == [PEER]
    assert guard.bans(3.0, 1000.0)[0].until == 1059.0
    assert guard.admits(PEER, 63.0)
    for _ in range(3):
        guard.strike(PEER, "auth", 63.0)
    assert bans == [(PEER, "auth", 60.0), (PEER, "auth", 120.0)]
    assert guard.unban(PEER)
    assert not guard.unban(PEER)
    assert guard.admits(PEER, 64.0)


def test_strikes_apart_in_time_do_not_ban() -> None:
    guard = Guard(GuardTable(auth_failures=2, window_s=10))
    guard.strike(PEER, "auth", 0.0)
    guard.strike(PEER, "auth", 11.0)
    assert guard.admits(PEER, 11.0)


def test_a_ban_never_grows_beyond_a_day() -> None:
    bans: list[float] = []
    guard = Guard(GuardTable(ban_s=60), on_ban=lambda address, reason, seconds: bans.append(seconds))
    for _ in range(20):
        guard.strike(PEER, "scanner", 0.0)
    assert bans[-1] == LONGEST_BAN_S


def test_exempt_addresses_are_never_banned() -> None:
    guard = Guard(GuardTable(never_ban=(PEER,)))
    guard.strike(PEER, "scanner", 0.0)
    assert guard.admits(PEER, 0.0)


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("SUBSCRIBE sip:a@inria.example SIP/2.0", (), 405),
        ("FROBNICATE sip:a@inria.example SIP/2.0", (), 501),
        ("INVITE mailto:a@inria.example SIP/2.0", (), 416),
        ("INVITE sip:a@inria.example SIP/2.0", ("Max-Forwards: 0",), 483),
        ("INVITE sip:a@inria.example SIP/2.0", ("Proxy-Require: teleport",), 420),
    ],
)
def test_what_nobody_could_serve_is_refused(line: str, headers: tuple[str, ...], status: int) -> None:
    with pytest.raises(Reject) as refused:
        check_sanity(request(line, *headers))
    assert refused.value.status == status


def test_the_unsupported_extension_is_named() -> None:
    with pytest.raises(Reject) as refused:
        check_sanity(request("INVITE sip:a@inria.example SIP/2.0", "Proxy-Require: teleport, time-travel"))
    assert refused.value.headers == (("Unsupported", "teleport, time-travel"),)


def test_a_plain_request_passes() -> None:
    check_sanity(request())
    check_sanity(request("OPTIONS sip:a@inria.example SIP/2.0", "Max-Forwards: 0"))


@pytest.mark.parametrize(("agent", "scanner"), [("friendly-scanner", True), ("SIPVicious", True), ("baresip", False)])
def test_scanners_are_known_by_their_agent(agent: str, scanner: bool) -> None:
    assert is_scanner(request("OPTIONS sip:1@inria.example SIP/2.0", f"User-Agent: {agent}")) is scanner
    assert not is_scanner(request())
