from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from nomad.alarm import outbox
from nomad.alarm.outbox import Outbox
from nomad.ports import Alarm, Unavailable
from tests.harness.virtual import VirtualLoop


def alarm(user: str = "alice") -> Alarm:
    return Alarm(1000.0, "short_calls", user, "10 short calls", "198.51.100.7", ("warn", "lock"), ("+4490",))


class Post:
    """Takes an alarm at the n-th try."""

    def __init__(self, works_at: int = 1) -> None:
        self.works_at = works_at
        self.tried_at: list[float] = []
        self.sent: list[str] = []

    async def send(self, alarm: Alarm) -> None:
        self.tried_at.append(asyncio.get_running_loop().time())
        if len(self.tried_at) < self.works_at:
            raise Unavailable("not now")
        self.sent.append(alarm.user)


def run(scenario: Coroutine[object, object, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario)


def test_what_fails_is_tried_again_with_growing_pauses() -> None:
    async def scenario() -> None:
        post, failures = Post(works_at=4), list[str]()
        box = Outbox("webhook", post.send, tries=5, failed=failures.append)
        box.start()
        box.tell(alarm())
        await box.settled()
        await box.stop()
        begin = post.tried_at[0]
        assert [round(at - begin) for at in post.tried_at] == [0, 1, 3, 7]
        assert (post.sent, failures) == (["alice"], [])

    run(scenario())


def test_what_fails_for_good_is_counted_and_the_next_is_sent() -> None:
    async def scenario() -> None:
        post, failures = Post(works_at=3), list[str]()
        box = Outbox("mail", post.send, tries=2, failed=failures.append)
        box.start()
        box.tell(alarm("alice"))
        box.tell(alarm("bob"))
        await box.settled()
        await box.stop()
        assert (post.sent, failures) == (["bob"], ["mail"])

    run(scenario())


def test_a_bug_in_sending_stops_nothing(errors_expected: None) -> None:
    async def scenario() -> None:
        failures = list[str]()

        async def broken(alarm: Alarm) -> None:
            raise ValueError("bug")

        box = Outbox("mail", broken, tries=2, failed=failures.append)
        box.start()
        box.tell(alarm())
        box.tell(alarm())
        await box.settled()
        await box.stop()
        assert failures == ["mail", "mail"]

    run(scenario())


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", 3)

    async def scenario() -> None:
        failures = list[str]()
        box = Outbox("mail", Post().send, tries=1, failed=failures.append)
        for _ in range(5):
            box.tell(alarm())
        assert failures == ["mail", "mail"]
        box.start()
        await box.settled()
        await box.stop()

    run(scenario())
