from __future__ import annotations

import pytest

from nomad.sip.events import ClientKey, ServerKey
from nomad.sip.transaction import (
    INVITE_CLIENT,
    INVITE_SERVER,
    OTHER_CLIENT,
    OTHER_SERVER,
    ClientTransaction,
    Do,
    Input,
    Machine,
    ServerTransaction,
    State,
    Stay,
    server_key,
)
from tests.harness.sip import TCP, UDP, make_request

MACHINES = {
    "invite-client": INVITE_CLIENT,
    "other-client": OTHER_CLIENT,
    "invite-server": INVITE_SERVER,
    "other-server": OTHER_SERVER,
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_state_can_be_reached_and_left(machine: Machine) -> None:
    reached = {machine.initial}
    for _ in State:
        reached |= {after for (before, _), (after, _) in machine.table.items() if before in reached}
    before = {state for state, _ in machine.table}
    assert before == reached - {State.TERMINATED}
    assert set(machine.stay) == before
    for state in before:  # nothing waits for ever for a timer that does not run
        if machine.stay[state] is not Stay.UNLIMITED:
            assert machine.table[state, Input.TIMER_B][0] is State.TERMINATED


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_what_is_resent_was_kept(machine: Machine) -> None:
    keeps = {Do.SEND_AND_KEEP, Do.SEND_AND_RESEND, Do.DELIVER_AND_ACK}
    for (state, _), (_, do) in machine.table.items():
        if do is Do.RESEND and state is not machine.initial:
            into = {row[1] for (before, _), row in machine.table.items() if row[0] is state and before is not state}
            assert into <= keeps


@pytest.mark.parametrize("machine", [INVITE_CLIENT, OTHER_CLIENT, INVITE_SERVER, OTHER_SERVER])
def test_the_terminated_state_takes_nothing(machine: Machine) -> None:
    assert not [state for state, _ in machine.table if state is State.TERMINATED]


def test_a_server_transaction_starts_in_its_machine_s_first_state() -> None:
    transaction = ServerTransaction(ServerKey("b", "s", "INVITE"), TCP, INVITE_SERVER, 7)
    assert (transaction.state, transaction.reliable, transaction.sent) == (State.PROCEEDING, True, b"")
    assert transaction.fingerprint == 7


def test_a_client_transaction_starts_in_its_machine_s_first_state() -> None:
    transaction = ClientTransaction(ClientKey("b", "REGISTER"), UDP, OTHER_CLIENT, make_request())
    assert (transaction.state, transaction.reliable, transaction.cancelled) == (State.TRYING, False, False)
    assert transaction.held is None
    assert not transaction.silent


def test_the_key_is_branch_sent_by_and_method() -> None:
    request = make_request("REGISTER", branch="z9hG4bKabc", sent_by="Phone.Example:5070")
    assert server_key(request) == ("z9hG4bKabc", "phone.example:5070", "REGISTER")


def test_an_ack_belongs_to_its_invite_and_a_cancel_to_itself() -> None:
    assert server_key(make_request("ACK")) == server_key(make_request("INVITE"))
    assert server_key(make_request("CANCEL")) != server_key(make_request("INVITE"))


@pytest.mark.parametrize(
    "other",
    [
        make_request("INVITE", branch="z9hG4bK-2"),
        make_request("INVITE", sent_by="198.51.100.7:5062"),
        make_request("INVITE", sent_by="198.51.100.7"),
        make_request("UPDATE"),
    ],
)
def test_another_branch_sender_or_method_is_another_transaction(other: object) -> None:
    assert server_key(other) != server_key(make_request("INVITE"))  # type: ignore[arg-type]  # all are requests


@pytest.mark.parametrize("branch", ["1", "z9hG4bK"])
def test_a_branch_without_cookie_falls_back_to_rfc_2543(branch: str) -> None:
    invite = make_request("INVITE", branch=branch)
    assert server_key(invite) == server_key(make_request("INVITE", branch=branch))
    assert server_key(invite) == server_key(make_request("ACK", branch=branch, to_tag="x"))
    for other in (
        make_request("INVITE", branch=branch, call_id="call-2"),
        make_request("INVITE", branch=branch, cseq=2),
        make_request("INVITE", branch=branch, uri="sip:carol@example.com"),
        make_request("INVITE", branch=branch, sent_by="198.51.100.8:5060"),
    ):
        assert server_key(other) != server_key(invite)


def test_a_2543_key_is_never_that_of_a_branch() -> None:
    key = server_key(make_request("INVITE", branch="1"))
    assert " " in key.branch
