"""`nomad policy explain`: who is found how, what is printed, what the exit code says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nomad.demo import site
from nomad.edge.policy import decide
from tests.cli.conftest import Nomad
from tests.cli.site import LEAST
from tests.edge.policy.test_verdicts import CASES, POLICY, RULES, attempt_of

ROOT = Path(__file__).resolve().parents[2]
STAFF = "cn=staff,ou=groups,dc=inria,dc=example"
CONFIG = f'policy = "policy.toml"{LEAST}'


@pytest.fixture
def config(tmp_path: Path) -> str:
    shutil.copy(ROOT / "deploy" / "policy.toml", tmp_path)
    shutil.copy(ROOT / "nomad" / "demo" / "people.ldif", tmp_path)
    (tmp_path / "nomad.toml").write_text(CONFIG)
    return str(tmp_path / "nomad.toml")


async def test_a_refused_call(bare: Nomad, config: str) -> None:
    ran = await bare("policy", "explain", "-c", config, "--user", "alice", "--to", "+33 (0)899 12 34 56")
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "    RULE   LINE  WHAT IT SAYS",
        "ok  class  18    number +330899123456 is +33899123456: class premium, by '089'",
        f"ok  group  38    user alice: group staff, by ldap_group '{STAFF}'",
        "no  deny   7     nobody may call premium",
        "refused: 403 Premium numbers are not allowed",
    ]


async def test_an_allowed_call_for_scripts(bare: Nomad, config: str) -> None:
    ran = await bare(
        *("policy", "explain", "-c", config, "--user", "carol.petit@inria.example", "--to", "0044201234567"),
        *("--cost-today", "17.40", "--calls", "1", "--json"),
    )
    assert ran.code == 0
    said = json.loads(ran.out)
    assert said["allowed"] is True
    assert (said["user"], said["group"]) == ("carol", "direction")
    assert said["groups"] == ["cn=direction,ou=groups,dc=inria,dc=example"]
    assert (said["dialled"], said["number"], said["class"]) == ("0044201234567", "+44201234567", "international")
    assert said["max_call_s"] == pytest.approx(600)
    assert said["tariff"] == {"setup": 0.1, "per_minute": 0.25}
    assert [(step["rule"], step["line"]) for step in said["chain"]] == [
        *(("class", 19), ("group", 30), ("allow", 31), ("concurrent", 32), ("cost", 33), ("longest", 33))
    ]
    assert said["policy"].endswith("policy.toml")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--to", "112", "--user", "emma", "--at", "2026-12-25T03:00"), 0, "emergency numbers are always allowed"),
        (("--to", "carol@inria.example", "--user", "alice"), 1, "carol@inria.example"),  # her mail is another
        (("--to", "carol.petit@inria.example", "--user", "alice"), 0, "number 3003"),
        (("--to", "sip:3003@inria.example;user=phone", "--user", "alice"), 0, "number 3003"),
        (("--to", "3001", "--user", "emma", "--at", "2026-12-25T15:00"), 1, "Fri 15:00 of a holiday is outside"),
        (("--to", "3001", "--user", "emma", "--at", "2026-12-25T09:00Z"), 0, "Fri 10:00 of a holiday is within"),
        (("--to", "3001", "--user", "emma", "--at", "2026-11-24T10:00", "--transport", "udp"), 1, "connected by udp"),
        (("--to", "3001", "--user", "x", "--group", STAFF), 0, "group staff"),
        (("--to", "3001", "--user", "x", "--group", "Visitor", "--at", "2026-11-24T10:00"), 0, "filter_id 'visitor'"),
        (("--to", "3001", "--user", "x", "--class", "gold"), 1, "No policy group for you"),
        (("--to", "3005", "--user", "emma", "--way", "internet"), 1, "refused: 480 Temporarily Unavailable"),
        (("--to", "3003", "--user", "carol", "--way", "internet"), 0, "may be called from the Internet"),
        (("--to", "0612345678", "--user", "bob", "--way", "forward"), 1, "group staff forwards to internal, national"),
        (("--to", "3001", "--user", "bob", "--calls-last-hour", "60"), 1, "Your 60 calls of this hour are used up"),
        (("--to", "3001", "--user", "bob", "--minutes-today", "240"), 1, "Your 240 minutes of today are used up"),
        (("--to", "3001", "--user", "bob", "--minutes-this-month", "2400"), 1, "Your 2400 minutes of this month"),
        (("--to", "0044201234567", "--user", "carol", "--cost-today", "20"), 1, "Your 20.00 of today are used up"),
    ],
)
async def test_cases(bare: Nomad, config: str, options: tuple[str, ...], code: int, said: str) -> None:
    ran = await bare("policy", "explain", "-c", config, *options)
    assert ran.code == code
    assert said in ran.out + ran.err


async def test_radius_is_asked_with_a_password(bare: Nomad, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMAD_TEST_PASSWORD", "alice-demo-2718")
    arguments = ("policy", "explain", "-c", config, "--user", "alice", "--to", "3002", "--login")
    ran = await bare(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert f"user alice: group staff, by ldap_group '{STAFF}'" in ran.out
    monkeypatch.setenv("NOMAD_TEST_PASSWORD", "wrong")
    ran = await bare(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert "embedded server: refused" in ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--user", "nobody", "--to", "112"),
            "nobody: no such person in file:people.ldif; or name --group, or --class",
        ),
        (("--user", "alice", "--to", "whoever"), "'whoever' is no number, and nobody in file:people.ldif"),
        (("--user", "alice", "--to", "112", "--at", "noon"), "'noon' is no time"),
        (("--user", "alice", "--to", "112", "--login", "--group", "x"), "exclude each other"),
        (("--user", "alice", "--to", "112", "--policy", "/nowhere.toml"), "/nowhere.toml: cannot be read"),
    ],
)
async def test_what_cannot_be_asked(bare: Nomad, config: str, options: tuple[str, ...], said: str) -> None:
    ran = await bare("policy", "explain", "-c", config, *options)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err


@pytest.fixture
def other(tmp_path: Path) -> str:
    text = (ROOT / "deploy" / "policy.toml").read_text()
    (tmp_path / "new.toml").write_text(text.replace('deny = ["premium", "satellite"]', 'deny = ["mobile"]'))
    (tmp_path / "broken.toml").write_text(text.replace('deny = ["premium"', 'deny = ["premum"'))
    return str(tmp_path)


async def test_another_policy_is_tried_out(bare: Nomad, config: str, other: str) -> None:
    arguments = ("policy", "explain", "-c", config, "--user", "alice", "--to", "0612345678")
    assert (await bare(*arguments)).code == 0
    assert "nobody may call mobile" in (await bare(*arguments, "--policy", f"{other}/new.toml")).out
    assert "broken.toml:7: deny: no class 'premum'" in (await bare(*arguments, "--policy", f"{other}/broken.toml")).err


async def test_the_demo_explains_itself(bare: Nomad, tmp_path: Path) -> None:
    config = str(site.build(tmp_path, ports=site.Ports(15060, 15070, 15140), pbx="127.0.0.1:15070"))
    ran = await bare("policy", "explain", "-c", config, "--user", "alice", "--to", "0899123456")
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "refused: 403 Premium numbers are not allowed")


DOCUMENTED = re.findall(
    r"^```console\n\$ nomad (policy explain [^\n]*)\n(.*?)^```$",
    (ROOT / "docs" / "policy.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize(("command", "printed"), DOCUMENTED, ids=[command for command, _ in DOCUMENTED])
async def test_the_document_shows_what_is_printed(
    bare: Nomad, config: str, monkeypatch: pytest.MonkeyPatch, command: str, printed: str
) -> None:
    monkeypatch.chdir(Path(config).parent)
    ran = await bare(*shlex.split(command))
    assert (ran.out, ran.err) == (printed, "")
    assert ran.code == (0 if "\nallowed" in printed else 1)


def test_the_document_shows_ten_cases() -> None:
    assert len(DOCUMENTED) >= 10


EXPLAINABLE = [case for _, case in CASES if not {"own", "own_classes", "forwarded", "country"} & set(case)][::4]


@pytest.fixture
def table(tmp_path: Path) -> str:
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "people.ldif").write_text("")
    (tmp_path / "nomad.toml").write_text(CONFIG)
    return str(tmp_path / "nomad.toml")


async def test_what_is_explained_is_what_is_decided(bare: Nomad, table: str) -> None:
    """Cases of the table of expected verdicts, asked at the command line."""
    for case in EXPLAINABLE:
        attempt = attempt_of(case)
        if not attempt.transport:
            continue
        options = [("--user", attempt.grant.user), ("--to", attempt.number), ("--from", attempt.source)]
        options += [("--group", name) for name in attempt.grant.groups or ("-",)]
        options += [("--class", value.decode()) for value in attempt.grant.classes]
        options += [("--at", datetime.fromtimestamp(attempt.at, UTC).isoformat()), ("--transport", attempt.transport)]
        options += [("--way", attempt.direction), ("--calls", str(attempt.active_calls))]
        used = attempt.used
        options += [("--calls-last-hour", str(used.calls_last_hour)), ("--cost-today", str(used.cost_today))]
        options += [("--minutes-today", str(used.seconds_today / 60))]
        options += [("--minutes-this-month", str(used.seconds_this_month / 60))]
        media = [] if attempt.encrypted_media else ["--plain-media"]
        ran = await bare(
            "policy", "explain", "-c", table, "--json", *[word for pair in options for word in pair], *media
        )
        said, verdict = json.loads(ran.out), decide(RULES, attempt)
        steps = [{"rule": step.rule, "line": step.line, "text": step.text} for step in verdict.chain]
        # today's minutes are part of the month's, which the table does not always say
        if used.seconds_this_month >= used.seconds_today:
            assert (said["chain"], said["max_call_s"]) == (steps, verdict.max_call_s), case
        assert (said["allowed"], said["reason"], said["status"]) == (verdict.allowed, verdict.reason, verdict.status)
        assert ran.code == (0 if verdict.allowed else 1)
