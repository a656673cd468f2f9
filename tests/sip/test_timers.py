from __future__ import annotations

import pytest

from nomad.sip.timers import TimerQueue, Timers


def test_a_transaction_lasts_64_t1() -> None:
    assert Timers().transaction == 32.0
    assert Timers(t1=0.1).transaction == pytest.approx(6.4)


def test_an_empty_queue_has_nothing_due() -> None:
    queue: TimerQueue[str] = TimerQueue()
    assert queue.next_due() is None
    assert queue.take_due(1e9) == []


def test_the_next_due_is_the_earliest_of_all_durations() -> None:
    queue: TimerQueue[str] = TimerQueue()
    assert queue.start(32.0, "long", 0.0) == 32.0
    assert queue.next_due() == 32.0
    queue.start(0.5, "short", 10.0)
    assert queue.next_due() == 10.5
    queue.start(4.0, "middle", 10.0)
    assert queue.next_due() == 10.5


def test_due_timers_come_earliest_first_and_once() -> None:
    queue: TimerQueue[str] = TimerQueue()
    queue.start(5.0, "d", 0.0)
    queue.start(1.0, "a", 0.0)
    queue.start(1.0, "c", 2.0)
    queue.start(2.0, "b", 0.0)
    queue.start(32.0, "later", 0.0)
    assert queue.take_due(0.9) == []
    assert queue.take_due(5.0) == [(1.0, "a"), (2.0, "b"), (3.0, "c"), (5.0, "d")]
    assert queue.take_due(5.0) == []
    assert queue.next_due() == 32.0


def test_a_timer_is_due_at_its_very_moment() -> None:
    queue: TimerQueue[str] = TimerQueue()
    queue.start(0.5, "a", 1.0)
    assert queue.take_due(1.5) == [(1.5, "a")]
