"""radius.health: every state with every input, and the limits around them."""

from __future__ import annotations

import itertools

from radius.health import TRANSITIONS, Health, Input, Limits, State


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, Input))


def dead(limits: Limits | None = None) -> Health:
    health = Health(limits or Limits())
    for second in range(3):
        health.silent(float(second), second + 0.5)
    assert health.state is State.DEAD
    return health


def test_three_silences_in_a_row_are_death() -> None:
    health = Health(Limits(failures=3))
    assert [health.silent(0.0, 1.0), health.silent(0.0, 1.0)] == [False, False]
    assert health.up
    assert health.silent(0.0, 1.0)
    assert not health.up


def test_answers_in_between_keep_it_alive() -> None:
    health = Health(Limits(failures=1))
    health.answered(5.0)
    assert not health.silent(4.0, 6.0), "another request was answered meanwhile: a lost packet, not a dead server"
    assert health.up


def test_reply_revives() -> None:
    health = dead()
    assert health.answered(3.0)
    assert health.up
    assert not health.answered(3.1)


def test_dead_server_is_tried_now_and_then() -> None:
    health = dead(Limits(dead_s=10.0))
    since = health.since
    assert not health.admit(since + 9.9)
    assert health.admit(since + 10.0)
    states = [health.state]
    assert not health.admit(since + 10.1), "one at a time"
    assert not health.silent(since + 10.0, since + 12.0), "it was dead before"
    states.append(health.state)
    assert states == [State.TRIAL, State.DEAD]
    assert health.since == since, "so long it has been dead"
    assert not health.admit(since + 21.9)
    assert health.admit(since + 22.0)


def test_a_trial_that_came_to_nothing_is_not_the_last() -> None:
    health = dead(Limits(dead_s=10.0))
    since = health.since
    assert health.admit(since + 10.0)  # whoever asked went away, or had nothing that fits into a packet
    assert not health.admit(since + 19.9)
    assert health.admit(since + 20.0)
    assert health.answered(since + 20.1)
    assert health.up
    assert health.since == since + 20.1
