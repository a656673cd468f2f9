"""Who gets in, by SIPp and by hand, with the embedded RADIUS server and with FreeRADIUS alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness.edge import Edge
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN, DORA, ERIN
from tests.harness.sipp import Result, Sipp, credentials
from tests.harness.wire import Message, Wire

WRONG = "401 Invalid credentials"
# what differs between any two answers: names of this transaction, the nonce, our tag
PASSING = ("Via", "Call-ID", "From", "To", "CSeq")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_people_register(edge: Edge, sipp_folder: Path, transport: str) -> None:
    people = [
        (ALICE.login, ALICE.login, ALICE.password),
        (ALICE.login, f"{ALICE.login}@{DOMAIN}", ALICE.password),
        (BOB.login, BOB.login, BOB.password),  # the directory has no password, only HA1
        (BOB.login, f"{BOB.login}@{DOMAIN}", BOB.password),
        (BOB.mail.partition("@")[0], BOB.mail, BOB.password),  # the mail address is a SIP address
        (CAROL.extension, CAROL.login, CAROL.password),  # so is the extension
    ]
    accepted = edge.metric("nomad_auth_total", result="accepted")
    run = _register(edge, sipp_folder, people, transport=transport)
    assert (run.successful, run.failed) == (len(people), 0), run.errors
    assert edge.metric("nomad_auth_total", result="accepted") == accepted + len(people)
    registered = {entry["user"]: entry for entry in edge.get("/api/v1/registrations")["registrations"]}
    assert {ALICE.login, BOB.login, CAROL.login} <= set(registered)
    assert registered[BOB.login]["extension"] == BOB.extension
    assert registered[BOB.login]["addresses"] == sorted(
        {BOB.mail, f"{BOB.login}@{DOMAIN}", f"{BOB.extension}@{DOMAIN}"}
    )
    assert edge.metric("nomad_registrations") == sum(len(entry["bindings"]) for entry in registered.values())


@pytest.mark.parametrize(
    ("user", "login", "password", "answer"),
    [
        (ALICE.login, ALICE.login, "wrong", WRONG),
        ("nobody", "nobody", "nobody-secret", WRONG),
        (DORA.login, DORA.login, "wrong", WRONG),
        (DORA.login, DORA.login, DORA.password, "403 This account is disabled"),
        (ERIN.login, ERIN.login, ERIN.password, WRONG),
        (BOB.login, ALICE.login, ALICE.password, "403 This address is not yours"),
    ],
    ids=[
        "wrong-password",
        "unknown",
        "disabled",
        "disabled-and-proven",
        "no-usable-secret",
        "address-of-somebody-else",
    ],
)
def test_others_do_not_register(
    edge: Edge, sipp_folder: Path, user: str, login: str, password: str, answer: str
) -> None:
    before = edge.get("/api/v1/registrations")
    refused = edge.metric("nomad_auth_total", result="refused")
    run = _register(edge, sipp_folder, [(user, login, password)], status=int(answer[:3]))
    assert run.successful == 1, run.errors
    assert f"SIP/2.0 {answer}" in run.messages
    assert edge.metric("nomad_auth_total", result="refused") == refused + (user == login)
    after = edge.get("/api/v1/registrations")
    assert _contacts(after) == _contacts(before)


def test_a_refusal_does_not_tell_why(edge: Edge) -> None:
    tries = [(ALICE.login, "wrong"), ("nobody", "x"), (DORA.login, "wrong"), (ERIN.login, ERIN.password)]
    for method, uri in (("REGISTER", f"sip:{DOMAIN}"), ("INVITE", f"sip:1000@{DOMAIN}")):
        answers = set()
        for login, password in tries:
            with Wire(edge.sip, login=login, password=password) as wire:
                wire.user = login
                answers.add(_shape(wire.ask_as_person(wire.compose(method, uri, to=wire.address))))
        assert len(answers) == 1, answers


def test_a_caller_uses_an_address_of_their_own(edge: Edge) -> None:
    with Wire(edge.sip, ALICE) as wire:
        for address in (f"{BOB.login}@{DOMAIN}", BOB.mail, f"{BOB.extension}@{DOMAIN}", "alice@elsewhere.example"):
            invite = wire.compose("INVITE", f"sip:1000@{DOMAIN}", from_=f"<sip:{address}>;tag=1", body=wire.offer())
            answer = wire.ask_as_person(invite)
            assert (answer.status, answer.reason) == (403, "This From address is not yours")


def _register(
    edge: Edge,
    folder: Path,
    people: Sequence[tuple[str, str, str]],
    *,
    transport: str = "udp",
    status: int = 200,
) -> Result:
    """Users register with the logins and passwords beside them; each is challenged and then gets the status."""
    return Sipp(
        folder,
        "register",
        target=edge.address,
        fields=[(user, credentials(login, password), "600") for user, login, password in people],
        values={"CODE": str(status)},
        transport=transport,
        calls=len(people),
        timeout_s=10.0,
    ).wait()


def _contacts(answer: dict[str, list[dict[str, list[dict[str, str]]]]]) -> list[list[str]]:
    return [[binding["contact"] for binding in entry["bindings"]] for entry in answer["registrations"]]


def _shape(answer: Message) -> tuple[str, ...]:
    """An answer without what differs each time."""
    kept = [f"{name}: {value}" for name, value in answer.headers if name not in PASSING]
    return (answer.first, *(re.sub(r'nonce="[0-9a-f]*"', "nonce", line) for line in kept))
