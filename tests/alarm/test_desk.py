from __future__ import annotations

import json
from pathlib import Path

import pytest

from nomad.alarm.desk import AlarmDesk
from nomad.config import Alarms, Config, ConfigError
from nomad.ports import Alarm
from tests.harness.hook import Hook
from tests.harness.mail import MailServer

ALARM = Alarm(1000.0, "short_calls", "alice", "why", "198.51.100.7", ("warn",))


async def test_everybody_named_is_told(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k\n")
    hook, server = await Hook().start(), MailServer()
    table = Alarms(
        webhook=hook.url,
        webhook_secret_file="key",
        smtp=server.address,
        smtp_security="none",
        mail_from="nomad@inria.example",
        mail_to=("a@inria.example",),
    )
    failures: list[str] = []
    desk = AlarmDesk(Config(domain="inria.example", alarms=table, folder=str(tmp_path)), failed=failures.append)
    desk.start()
    desk.tell(ALARM)
    await desk.settled()
    await desk.stop()
    await hook.stop()
    server.stop()
    assert [json.loads(body)["alarm"]["user"] for _, body in hook.posts] == ["alice"]
    assert len(server.messages) == 1
    assert failures == []


async def test_without_configuration_nobody_is_told() -> None:
    desk = AlarmDesk(Config(domain="inria.example"))
    desk.start()
    desk.tell(ALARM)
    await desk.settled()
    await desk.stop()


def test_a_key_that_is_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    table = Alarms(webhook="http://127.0.0.1/", webhook_secret_file="key")
    with pytest.raises(ConfigError):
        AlarmDesk(Config(domain="inria.example", alarms=table, folder=str(tmp_path)))
