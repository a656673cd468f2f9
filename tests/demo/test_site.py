"""The demo's files hang together: configuration, policy, people, and what the phones know."""

from __future__ import annotations

import socket
from pathlib import Path

from nomad import config
from nomad.demo import site
from nomad.demo.steps import ALICE, BOB, PREMIUM
from nomad.edge.policy import Attempt, compile_policy, decide
from nomad.ports import Grant


def test_the_configuration_is_right(tmp_path: Path) -> None:
    ports = site.Ports(15060, 15070, 15140)
    loaded = config.load(site.build(tmp_path, ports=ports, pbx="127.0.0.1:15070"))
    assert config.check(loaded) == []
    assert loaded.sip.listen == ("udp:127.0.0.1:15060", "tcp:127.0.0.1:15060")
    assert loaded.pbx[0].trusted == ("127.0.0.1:15070",)
    assert loaded.path("people.ldif").is_file()


def test_other_people_may_be_given(tmp_path: Path) -> None:
    other = tmp_path / "other.ldif"
    other.write_text("dn: uid=zoe\nuid: zoe\n", encoding="utf-8")
    (tmp_path / "site").mkdir()
    site.build(tmp_path / "site", ports=site.Ports(1, 2, 3), pbx="x:1", people=other)
    assert [person.login for person in site.read_people(tmp_path / "site" / "people.ldif")] == ["zoe"]


def test_the_sample_people() -> None:
    people = site.read_people()
    assert [person.login for person in people] == ["alice", "bob", "carol", "david", "emma"]
    assert [person.extension for person in people] == ["3001", "3002", "3003", "3004", "3005"]
    assert {person.group for person in people} == {"staff", "direction", "visitors"}
    known = {(person.login, person.password, person.extension) for person in people}
    assert {ALICE, BOB} <= known


def test_the_policy_refuses_staff_a_premium_number_only() -> None:
    ruleset = compile_policy((site.HERE / "policy.toml").read_text(encoding="utf-8"), "policy.toml")
    for number, allowed in (("1000", True), ("0123456789", True), ("112", True), (PREMIUM, False), ("0044123", False)):
        attempt = Attempt(
            Grant("alice", groups=("cn=staff,ou=groups,dc=inria,dc=example",)),
            number,
            source="127.0.0.1",
            at=0.0,
        )
        verdict = decide(ruleset, attempt)
        assert verdict.allowed is allowed, number
        if number == PREMIUM:
            assert "premium" in verdict.reason.lower()


def test_ports_are_free_or_counted_from_the_base() -> None:
    assert site.choose_ports(20000) == site.Ports(20000, 20010, 20080)
    ports = site.choose_ports(None)
    for kind, port in (
        (socket.SOCK_DGRAM, ports.sip),
        (socket.SOCK_STREAM, ports.sip),
        (socket.SOCK_DGRAM, ports.pbx),
        (socket.SOCK_STREAM, ports.admin),
    ):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind((site.HOST, port))
