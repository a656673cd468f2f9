"""Alarms by HTTP, to a real server on loopback."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from nomad.alarm.webhook import SIGNATURE, Webhook
from nomad.ports import Alarm, Unavailable
from tests.harness.hook import Hook
from tests.harness.ports import HOST, free_port

ALARM = Alarm(1000.0, "short_calls", "al\u00efce", "why", "198.51.100.7", ("warn", "lock"), ("+4490",))


async def test_an_alarm_is_posted_and_signed() -> None:
    hook = await Hook().start()
    await Webhook(hook.url, key=b"k", timeout_s=2.0, node="inria.example").send(ALARM)
    await hook.stop()
    ((headers, body),) = hook.posts
    assert headers[SIGNATURE] == hmac.new(b"k", body, hashlib.sha256).hexdigest()
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "node": "inria.example",
        "alarm": {
            "at": 1000.0,
            "rule": "short_calls",
            "user": "al\u00efce",
            "why": "why",
            "peer": "198.51.100.7",
            "done": ["warn", "lock"],
            "calls": ["+4490"],
        },
    }


@pytest.mark.parametrize(("answer", "said"), [(500, "HTTP 500"), (302, "HTTP 302"), (404, "HTTP 404"), (0, "no answ")])
async def test_what_is_not_2xx_is_unavailable(answer: int, said: str) -> None:
    hook = await Hook(answer).start()
    with pytest.raises(Unavailable, match=said):
        await Webhook(hook.url, key=b"", timeout_s=0.3, node="n").send(ALARM)
    await hook.stop()
    assert len(hook.posts) == 1
    assert SIGNATURE not in hook.posts[0][0]


async def test_nobody_listens() -> None:
    with pytest.raises(Unavailable, match="webhook: "):
        await Webhook(f"http://{HOST}:{free_port()}/", key=b"", timeout_s=1.0, node="n").send(ALARM)
