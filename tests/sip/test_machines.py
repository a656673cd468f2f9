"""Every state of the four transaction machines with every input, driven through the stack.

The tables of RFC 3261 17 with RFC 6026 and RFC 4320, written down a second time.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nomad.sip.events import Flow
from tests.harness.sip import TCP, UDP, Bench, Step, ack, client_in, make_request, server_in

LONG = 32.0  # 64*T1

SERVER_INPUTS: dict[str, Step] = {
    "request": lambda b: b.receive(b.request),
    "ack": ack,
    "cancel": lambda b: b.receive(make_request("CANCEL")),
    "100": lambda b: b.respond(100),
    "180": lambda b: b.respond(180),
    "200": lambda b: b.respond(200),
    "408": lambda b: b.respond(408),
    "486": lambda b: b.respond(486),
    "flow failed": lambda b: b.stack.flow_failed(b.flow, b.now, "gone"),
    "T1 passes": lambda b: b.run(0.5),
    "T4 passes": lambda b: b.run(5.0),
    "64*T1 pass": lambda b: b.run(LONG),
}
CLIENT_INPUTS: dict[str, Step] = {
    "100": lambda b: b.answer(100),
    "180": lambda b: b.answer(180),
    "200": lambda b: b.answer(200),
    "486": lambda b: b.answer(486),
    "cancel": lambda b: b.stack.cancel(b.client, b.now),
    "flow failed": lambda b: b.stack.flow_failed(b.flow, b.now, "gone"),
    "T1 passes": lambda b: b.run(0.5),
    "T4 passes": lambda b: b.run(5.0),
    "64*T1 pass": lambda b: b.run(LONG),
}


def same(*changes: str) -> dict[str, str]:
    """Outcome by input: the words `input: state / sends / events` of what is not nothing."""
    outcomes = {}
    for change in changes:
        name, _, outcome = change.partition(": ")
        outcomes[name] = outcome
    return outcomes


INVITE_SERVER: dict[str, tuple[tuple[Step, ...], dict[str, str]]] = {
    "proceeding, silent": (
        (),
        same(
            "cancel: proceeding / 200 / CancelArrived",
            "100: proceeding / 100 /",
            "180: proceeding / 180 /",
            "200: accepted / 200 /",
            "408: completed / 408 /",
            "486: completed / 486 /",
        ),
    ),
    "proceeding": (
        (lambda b: b.respond(180),),
        same(
            "request: proceeding / 180 /",
            "cancel: proceeding / 200 / CancelArrived",
            "100: proceeding / 100 /",
            "180: proceeding / 180 /",
            "200: accepted / 200 /",
            "408: completed / 408 /",
            "486: completed / 486 /",
        ),
    ),
    "completed": (
        (lambda b: b.respond(486),),
        same(
            "request: completed / 486 /",
            "ack: confirmed / /",
            "cancel: completed / 200 /",
            "T1 passes: completed / 486 /",
            "T4 passes: completed / 486 486 486 /",  # after 0.5, 1.5 and 3.5 s
            "64*T1 pass: terminated / 486 486 486 486 486 486 486 486 486 486 / AckMissing",
        ),
    ),
    "confirmed": (
        (lambda b: b.respond(486), ack),
        same("cancel: confirmed / 200 /", "T4 passes: terminated / /", "64*T1 pass: terminated / /"),
    ),
    "accepted": (
        (lambda b: b.respond(200),),
        same(
            "ack: accepted / / AckArrived",
            "cancel: accepted / 200 /",
            "200: accepted / 200 /",  # the callee repeats its 2xx: RFC 6026 7.1
            "64*T1 pass: terminated / /",
        ),
    ),
    "terminated": (
        (lambda b: b.respond(486), ack, lambda b: b.run(5.0)),
        same("request: proceeding / / RequestArrived", "ack: terminated / / AckArrived", "cancel: terminated / 481 /"),
    ),
}
OTHER_SERVER: dict[str, tuple[tuple[Step, ...], dict[str, str]]] = {
    "trying": (
        (),
        same(
            "ack: trying / / AckArrived",
            "cancel: trying / 481 /",
            "100: proceeding / 100 /",
            "200: completed / 200 /",
            "486: completed / 486 /",
            "64*T1 pass: terminated / /",  # the client has given up: RFC 4320 4.2
        ),
    ),
    "proceeding": (
        (lambda b: b.respond(100),),
        same(
            "request: proceeding / 100 /",
            "ack: proceeding / / AckArrived",
            "cancel: proceeding / 481 /",
            "100: proceeding / 100 /",
            "200: completed / 200 /",
            "486: completed / 486 /",
            "64*T1 pass: terminated / /",
        ),
    ),
    "completed": (
        (lambda b: b.respond(200),),
        same(
            "request: completed / 200 /",
            "ack: completed / / AckArrived",
            "cancel: completed / 481 /",
            "64*T1 pass: terminated / /",
        ),
    ),
    "terminated": (
        (lambda b: b.respond(200), lambda b: b.run(LONG)),
        same("request: trying / / RequestArrived", "ack: terminated / / AckArrived", "cancel: terminated / 481 /"),
    ),
}
INVITE_CLIENT: dict[str, tuple[tuple[Step, ...], dict[str, str]]] = {
    "calling": (
        (),
        same(
            "100: proceeding / / ResponseArrived:100",
            "180: proceeding / / ResponseArrived:180",
            "200: accepted / / ResponseArrived:200",
            "486: completed / ACK / ResponseArrived:486",
            "flow failed: terminated / / BranchFailed",
            "T1 passes: calling / INVITE /",
            "T4 passes: calling / INVITE INVITE INVITE /",
            "64*T1 pass: terminated / INVITE INVITE INVITE INVITE INVITE INVITE / BranchTimedOut",
        ),
    ),
    "proceeding": (
        (lambda b: b.answer(100),),
        same(
            "100: proceeding / / ResponseArrived:100",
            "180: proceeding / / ResponseArrived:180",
            "200: accepted / / ResponseArrived:200",
            "486: completed / ACK / ResponseArrived:486",
            "cancel: proceeding / CANCEL /",
            "flow failed: terminated / / BranchFailed",
        ),
    ),
    "completed": (
        (lambda b: b.answer(486),),
        same("486: completed / ACK /", "64*T1 pass: terminated / /"),
    ),
    "accepted": (
        (lambda b: b.answer(200),),
        same("200: accepted / / ResponseArrived:200", "64*T1 pass: terminated / /"),
    ),
    "terminated": (
        (lambda b: b.answer(486), lambda b: b.run(LONG)),
        same(*[f"{status}: terminated / / StrayResponse" for status in (100, 180, 200, 486)]),
    ),
}
_RESENT = " ".join(["OPTIONS"] * 10)
OTHER_CLIENT: dict[str, tuple[tuple[Step, ...], dict[str, str]]] = {
    "trying": (
        (),
        same(
            "100: proceeding / / ResponseArrived:100",
            "180: proceeding / / ResponseArrived:180",
            "200: completed / / ResponseArrived:200",
            "486: completed / / ResponseArrived:486",
            "flow failed: terminated / / BranchFailed",
            "T1 passes: trying / OPTIONS /",
            "T4 passes: trying / OPTIONS OPTIONS OPTIONS /",
            f"64*T1 pass: terminated / {_RESENT} / BranchTimedOut",
        ),
    ),
    "proceeding": (
        (lambda b: b.answer(100),),
        same(
            "100: proceeding / / ResponseArrived:100",
            "180: proceeding / / ResponseArrived:180",
            "200: completed / / ResponseArrived:200",
            "486: completed / / ResponseArrived:486",
            "flow failed: terminated / / BranchFailed",
            "T1 passes: proceeding / OPTIONS /",
            "T4 passes: proceeding / OPTIONS OPTIONS /",  # after 0.5 and 4.5 s
            "64*T1 pass: terminated / OPTIONS OPTIONS OPTIONS OPTIONS OPTIONS OPTIONS OPTIONS OPTIONS / BranchTimedOut",
        ),
    ),
    "completed": (
        (lambda b: b.answer(200),),
        same("T4 passes: terminated / /", "64*T1 pass: terminated / /"),
    ),
    "terminated": (
        (lambda b: b.answer(200), lambda b: b.run(5.0)),
        same(*[f"{status}: terminated / / StrayResponse" for status in (100, 180, 200, 486)]),
    ),
}
RELIABLE_INVITE_SERVER = {
    **INVITE_SERVER,
    "completed": (
        INVITE_SERVER["completed"][0],
        same(
            "request: completed / 486 /",
            "ack: terminated / /",
            "cancel: completed / 200 /",
            "64*T1 pass: terminated / / AckMissing",
        ),
    ),
}
del RELIABLE_INVITE_SERVER["confirmed"]
RELIABLE_OTHER_SERVER = {
    state: (
        steps,
        {
            name: outcome.replace("completed", "terminated") if name in ("200", "486") else outcome
            for name, outcome in outcomes.items()
        },
    )
    for state, (steps, outcomes) in OTHER_SERVER.items()
    if state != "completed"
}
RELIABLE_INVITE_CLIENT = {
    "calling": (
        (),
        {
            **{k: v for k, v in INVITE_CLIENT["calling"][1].items() if "passes" not in k},
            "486": "terminated / ACK / ResponseArrived:486",
            "64*T1 pass": "terminated / / BranchTimedOut",
        },
    ),
    "proceeding": (
        INVITE_CLIENT["proceeding"][0],
        {**INVITE_CLIENT["proceeding"][1], "486": "terminated / ACK / ResponseArrived:486"},
    ),
    "accepted": INVITE_CLIENT["accepted"],
    "terminated": INVITE_CLIENT["terminated"],
}
RELIABLE_OTHER_CLIENT = {
    state: (
        steps,
        {
            **{k: v.replace("completed", "terminated") for k, v in outcomes.items() if "passes" not in k},
            **({} if state == "terminated" else {"64*T1 pass": "terminated / / BranchTimedOut"}),
        },
    )
    for state, (steps, outcomes) in OTHER_CLIENT.items()
    if state != "completed"
}

CASES = [
    pytest.param(make, method, flow, steps, state, name, outcomes.get(name), id=f"{title}-{state}-{name}")
    for title, make, method, flow, states, inputs in (
        ("invite-server", server_in, "INVITE", UDP, INVITE_SERVER, SERVER_INPUTS),
        ("other-server", server_in, "OPTIONS", UDP, OTHER_SERVER, SERVER_INPUTS),
        ("invite-client", client_in, "INVITE", UDP, INVITE_CLIENT, CLIENT_INPUTS),
        ("other-client", client_in, "OPTIONS", UDP, OTHER_CLIENT, CLIENT_INPUTS),
        ("reliable-invite-server", server_in, "INVITE", TCP, RELIABLE_INVITE_SERVER, SERVER_INPUTS),
        ("reliable-other-server", server_in, "OPTIONS", TCP, RELIABLE_OTHER_SERVER, SERVER_INPUTS),
        ("reliable-invite-client", client_in, "INVITE", TCP, RELIABLE_INVITE_CLIENT, CLIENT_INPUTS),
        ("reliable-other-client", client_in, "OPTIONS", TCP, RELIABLE_OTHER_CLIENT, CLIENT_INPUTS),
    )
    for state, (steps, outcomes) in states.items()
    for name in inputs
]


@pytest.mark.parametrize(("make", "method", "flow", "steps", "state", "name", "outcome"), CASES)
def test_every_state_with_every_input(
    make: Callable[..., Bench],
    method: str,
    flow: Flow,
    steps: tuple[Step, ...],
    state: str,
    name: str,
    outcome: str | None,
) -> None:
    bench = make(method, flow, *steps)
    assert bench.state() == state.partition(",")[0]
    (SERVER_INPUTS if make is server_in else CLIENT_INPUTS)[name](bench)
    after = f"{bench.state()} / {bench.sends()} / {bench.events()}".replace("  ", " ").strip()
    assert after == (outcome or f"{state.partition(',')[0]} / /")
