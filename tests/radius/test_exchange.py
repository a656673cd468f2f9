"""radius.exchange: identifiers, retransmission, reply check, duplicates; on a clock that is a number."""

from __future__ import annotations

import pytest

from radius import packet as wire
from radius.exchange import Backoff, DuplicateCache, Exchange, Exchanges
from radius.packet import Code

SECRET = b"s3cret"


def make(*, channels: int = 1, jitter: float = 0.0, backoff: Backoff | None = None) -> Exchanges:
    return Exchanges(
        SECRET, backoff or Backoff(0.5), channels=channels, jitter=lambda: jitter, entropy=lambda size: bytes(size)
    )


def begin(
    exchanges: Exchanges, now: float = 0.0, code: int = Code.ACCESS_REQUEST, give_up_at: float = 10.0
) -> Exchange:
    exchange = exchanges.begin(code, b"\x01\x03a", "token", now=now, give_up_at=give_up_at)
    assert exchange is not None
    return exchange


def answer_to(
    exchange: Exchange, code: int = Code.ACCESS_ACCEPT, *, secret: bytes = SECRET, sign: bool = True
) -> bytes:
    return wire.encode_reply(code, wire.decode(exchange.data), b"", secret=secret, sign=sign)


@pytest.mark.parametrize(
    ("jitter", "delays"),
    [(0.0, [2, 4, 8, 16, 16]), (1.0, [2.2, 4.62, 9.702, 17.6, 17.6]), (-1.0, [1.8, 3.42, 6.498, 12.3462, 14.4])],
)
def test_back_off_doubles_with_jitter(jitter: float, delays: list[float]) -> None:
    """RFC 5080 2.2.1 with its own IRT of 2 s and MRT of 16 s."""
    backoff = Backoff(2.0, 16.0)
    seen = [backoff.first(jitter)]
    while len(seen) < len(delays):
        seen.append(backoff.next(seen[-1], jitter))
    assert seen == pytest.approx(delays)


def test_reply_ends_the_exchange() -> None:
    exchanges = make()
    exchange = begin(exchanges)
    answer = exchanges.receive(0, answer_to(exchange))
    assert answer is not None
    assert answer.exchange is exchange
    assert answer.packet.code == Code.ACCESS_ACCEPT
    assert len(exchanges) == 0
    assert exchanges.next_timer() is None


def test_retransmission_sends_the_same_octets_until_it_gives_up() -> None:
    exchanges = make()
    exchange = begin(exchanges, give_up_at=3.0)
    data = exchange.data
    times = []
    while (when := exchanges.next_timer()) is not None:
        again, silent = exchanges.due(when)
        times.append((when, len(again), len(silent)))
        assert exchange.data == data
    assert times == [(0.5, 1, 0), (1.5, 1, 0), (3.0, 0, 1)]
    assert exchange.sent == 3
    assert (exchanges.counters.retransmissions, exchanges.counters.timeouts) == (2, 1)


def test_probe_is_not_resent() -> None:
    exchanges = make()
    exchanges.begin(Code.STATUS_SERVER, b"", None, now=0.0, give_up_at=1.0, resend=False)
    assert exchanges.next_timer() == 1.0
    again, silent = exchanges.due(1.0)
    assert (len(again), len(silent)) == (0, 1)


def test_early_wake_does_nothing() -> None:
    exchanges = make()
    begin(exchanges)
    assert exchanges.due(0.49) == ([], [])


def test_late_reply_is_counted_and_dropped() -> None:
    exchanges = make()
    exchange = begin(exchanges, give_up_at=0.4)
    exchanges.due(0.4)
    assert exchanges.receive(0, answer_to(exchange)) is None
    assert exchanges.counters.late == 1


def test_second_reply_is_late() -> None:
    exchanges = make()
    data = answer_to(begin(exchanges))
    assert exchanges.receive(0, data) is not None
    assert exchanges.receive(0, data) is None
    assert exchanges.counters.late == 1


@pytest.mark.parametrize("case", ["secret", "unsigned", "code", "other-channel", "garbage", "empty"])
def test_forged_reply_does_not_end_the_exchange(case: str) -> None:
    exchanges = make(channels=2)
    exchange = begin(exchanges)
    data = {
        "secret": answer_to(exchange, secret=b"guess"),
        "unsigned": answer_to(exchange, sign=False),
        "code": answer_to(exchange, Code.ACCOUNTING_RESPONSE),
        "garbage": b"\x02\x00garbage",
        "empty": b"",
    }.get(case, answer_to(exchange))
    assert exchanges.receive(1 if case == "other-channel" else 0, data) is None
    assert len(exchanges) == 1
    counters = exchanges.counters
    assert counters.forged + counters.malformed + counters.late == 1
    assert exchanges.receive(0, answer_to(exchange)) is not None


def test_accounting_reply_needs_no_message_authenticator() -> None:
    exchanges = make()
    exchange = begin(exchanges, code=Code.ACCOUNTING_REQUEST)
    assert exchanges.receive(0, answer_to(exchange, Code.ACCOUNTING_RESPONSE, sign=False)) is not None


def test_channels_are_opened_one_after_the_other_and_then_it_is_full() -> None:
    exchanges = make(channels=2)
    started = [begin(exchanges) for _ in range(512)]
    assert {exchange.channel for exchange in started[:256]} == {0}
    assert {exchange.channel for exchange in started[256:]} == {1}
    assert len({(exchange.channel, exchange.identifier) for exchange in started}) == 512
    assert exchanges.begin(1, b"", None, now=0.0, give_up_at=1.0) is None
    assert exchanges.counters.full == 1


def test_identifier_rests_as_long_as_possible() -> None:
    exchanges = make()
    first = begin(exchanges)
    exchanges.abandon(first)
    exchanges.abandon(first)
    others = [begin(exchanges).identifier for _ in range(255)]
    assert first.identifier not in others
    assert begin(exchanges).identifier == first.identifier


def test_duplicates_get_the_first_answer() -> None:
    cache = DuplicateCache(lifetime_s=5.0)
    assert cache.look("key", 0.0) is None
    assert cache.look("key", 1.0) == b""
    cache.answer("key", b"reply")
    assert cache.look("key", 4.9) == b"reply"
    assert cache.look("key", 5.0) is None


def test_duplicate_cache_forgets_and_is_bounded() -> None:
    cache = DuplicateCache(lifetime_s=5.0, limit=2)
    cache.look("a", 0.0)
    cache.forget("a")
    cache.answer("a", b"too late")
    assert cache.look("a", 0.0) is None
    cache.look("b", 0.0)
    cache.look("c", 0.0)
    assert len(cache) == 2
    assert cache.look("a", 0.0) is None
