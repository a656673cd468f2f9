import pytest

from nomad.config import Guard as GuardTable
from nomad.edge.guard import FORGIVEN_S, LONGEST_BAN_S, PROVEN_S, Guard, check_sanity
from nomad.ports import BanView, StoredBan
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


def strike(guard: Guard, kind: str, now: float, address: str = PEER, *, proven: bool = True) -> None:
    guard.strike(address, kind, now, proven=proven)


def test_enough_refused_logins_ban_and_each_ban_is_longer() -> None:
    bans: list[StoredBan] = []
    lifted: list[StoredBan] = []
    table = GuardTable(auth_failures=3, ban_s=60, window_s=60)
    guard = Guard(table, wall=lambda: 1000.0, on_ban=bans.append, on_unban=lifted.append)
    for now in (0.0, 1.0, 2.0):
        assert guard.admits(PEER, now)
        strike(guard, "auth", now)
    assert not guard.admits(PEER, 3.0)
    assert guard.bans(3.0, 1000.0) == [BanView(PEER, "auth", 1059.0)]
    assert (guard.banned(3.0), guard.banned(63.0)) == (1, 0)
    assert guard.admits(PEER, 63.0)
    for _ in range(3):
        strike(guard, "auth", 63.0)
    assert bans == [StoredBan(PEER, "auth", 1060.0, 60.0), StoredBan(PEER, "auth", 1120.0, 120.0)]
    assert guard.unban(PEER)
    assert [each.address for each in lifted] == [PEER]
    assert not guard.unban(PEER)
    assert guard.admits(PEER, 64.0)


def test_a_ban_long_ago_does_not_lengthen_the_next() -> None:
    bans: list[StoredBan] = []
    guard = Guard(GuardTable(ban_s=60), on_ban=bans.append)
    strike(guard, "scanner", 0.0)
    strike(guard, "scanner", 60.0 + FORGIVEN_S)
    assert [ban.length_s for ban in bans] == [60, 60]


def test_strikes_apart_in_time_do_not_ban() -> None:
    guard = Guard(GuardTable(auth_failures=2, window_s=10))
    strike(guard, "auth", 0.0)
    strike(guard, "auth", 11.0)
    assert guard.admits(PEER, 11.0)


def test_a_ban_never_grows_beyond_a_day() -> None:
    bans: list[StoredBan] = []
    guard = Guard(GuardTable(ban_s=60), on_ban=bans.append)
    for _ in range(20):
        strike(guard, "scanner", 0.0)
    assert bans[-1].length_s == LONGEST_BAN_S


def test_exempt_addresses_are_neither_banned_nor_slowed() -> None:
    guard = Guard(GuardTable(never_ban=(PEER,)))
    strike(guard, "scanner", 0.0)
    strike(guard, "scanner", 0.0, proven=False)
    assert guard.admits(PEER, 0.0)
    assert guard.bans(0.0, 0.0) == []


@pytest.mark.parametrize("kind", ["auth", "malformed", "scanner"])
def test_what_may_be_forged_never_bans(kind: str) -> None:
    bans: list[StoredBan] = []
    suspects: list[tuple[str, str]] = []
    guard = Guard(
        GuardTable(auth_failures=3, malformed=3, suspect_s=60, suspect_pause_s=2),
        on_ban=bans.append,
        on_suspect=lambda *suspect: suspects.append(suspect),
    )
    for tenth in range(6000):
        strike(guard, kind, tenth / 10, proven=False)
    assert bans == []
    assert suspects == [(PEER, kind)]
    assert guard.bans(600.0, 1600.0)[0].kind == "slowed"
    looked_at = sum(guard.admits(PEER, 600.0 + tenth / 10) for tenth in range(300))
    assert 14 <= looked_at <= 16  # one in two seconds
    assert guard.admits(PEER, 660.0)
    assert guard.admits(PEER, 660.0)
    guard.forget(661.0)
    assert guard.bans(600.0, 1600.0) == []


def test_who_logged_in_lately_is_not_slowed_by_forgers() -> None:
    guard = Guard(GuardTable(suspect_pause_s=2))
    strike(guard, "scanner", 0.0, proven=False)
    assert not guard.admits(PEER, 1.0)
    guard.proved(PEER, 1.0)
    assert all(guard.admits(PEER, 1.0) for _ in range(10))
    strike(guard, "scanner", 2.0, proven=False)
    assert all(guard.admits(PEER, 2.0) for _ in range(10))
    strike(guard, "scanner", 2.0 + PROVEN_S, proven=False)
    assert not guard.admits(PEER, 3.0 + PROVEN_S)


def test_connections_are_not_slowed_by_what_others_may_have_sent() -> None:
    guard = Guard(GuardTable(suspect_pause_s=2))
    strike(guard, "scanner", 0.0, proven=False)
    assert not guard.admits(PEER, 1.0)
    assert all(guard.admits(PEER, 1.0, True) for _ in range(10))
    strike(guard, "scanner", 1.0)
    assert not guard.admits(PEER, 1.0, True)


def test_an_ipv6_network_is_one_peer() -> None:
    guard = Guard(GuardTable(auth_failures=2))
    strike(guard, "auth", 0.0, "2001:db8:1:2::1")
    strike(guard, "auth", 0.0, "2001:db8:1:2:aaaa:bbbb:cccc:dddd")
    assert not guard.admits("2001:db8:1:2:ffff::9", 1.0)
    assert guard.admits("2001:db8:1:3::1", 1.0)
    assert [view.address for view in guard.bans(1.0, 0.0)] == ["2001:db8:1:2::/64"]
    assert guard.unban("2001:db8:1:2::/64")
    assert guard.admits("2001:db8:1:2::1", 1.0)


def test_bans_of_an_earlier_process_hold_and_grow() -> None:
    bans: list[StoredBan] = []
    guard = Guard(GuardTable(ban_s=60, never_ban=("192.0.2.0/24",)), wall=lambda: 1000.0, on_ban=bans.append)
    stored = [
        StoredBan(PEER, "auth", 1030.0, 240.0),
        StoredBan("2001:db8:1:2::/64", "scanner", 1010.0, 60.0),
        StoredBan("203.0.113.5", "auth", 900.0, 60.0),
        StoredBan("192.0.2.7", "auth", 5000.0, 60.0),
    ]
    guard.restore(stored, 5.0)
    assert [guard.admits(ban.address.replace("::/64", "::1"), 6.0) for ban in stored] == [False, False, True, True]
    assert guard.admits(PEER, 35.0)
    strike(guard, "scanner", 36.0)
    assert bans[-1].length_s == 480.0


def test_forged_sources_push_no_ban_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.edge.guard.MAX_ADDRESSES", 100)
    guard = Guard(GuardTable())
    strike(guard, "scanner", 0.0)
    for number in range(1000):
        forged = f"10.0.{number >> 8}.{number & 255}"
        guard.admits(forged, 0.0)
        strike(guard, "scanner", 0.0, forged, proven=False)
        strike(guard, "malformed", 0.0, forged, proven=False)
    assert not guard.admits(PEER, 1.0)
    sizes = [len(guard._buckets), len(guard._suspects), len(guard._strikes), len(guard._exempt_cache)]
    assert max(sizes) <= 100


def test_a_reload_that_exempts_an_address_lifts_its_ban() -> None:
    lifted: list[StoredBan] = []
    guard = Guard(GuardTable(), on_unban=lifted.append)
    strike(guard, "scanner", 0.0)
    guard.configure(GuardTable(never_ban=("198.51.100.0/24",)))
    assert guard.admits(PEER, 1.0)
    assert [ban.address for ban in lifted] == [PEER]


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
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


def test_what_strangers_made_it_remember_is_forgotten_again() -> None:
    guard = Guard(GuardTable(malformed=3, window_s=60, requests_per_s=10, burst=100))
    for number in range(1000):
        address = f"198.51.{number // 250}.{number % 250}"
        assert guard.admits(address, 0.0)
        guard.strike(address, "malformed", 0.0, proven=False)
        guard.proved(address, 0.0)
    tables = (guard._buckets, guard._strikes, guard._proven)
    assert [len(table) for table in tables] == [1000] * 3
    guard.strike(PEER, "malformed", 50.0, proven=True)
    guard.forget(61.0)
    assert (guard._buckets, list(guard._strikes), len(guard._proven)) == ({}, [(PEER, "malformed", True)], 1000)
    for _ in range(2):
        guard.strike(PEER, "malformed", 62.0, proven=True)
    assert not guard.admits(PEER, 62.0)  # nothing that counts was forgotten
    guard.forget(PROVEN_S + 1)
    assert (guard._strikes, guard._proven, len(guard._bans)) == ({}, {}, 1)
    guard.forget(62.0 + 60.0 + FORGIVEN_S + 1)
    assert guard._bans == {}
