"""Values that stores keep."""

from __future__ import annotations

import hashlib

from nomad.ports import AccountingRecord, Binding, Cdr, Grant, LiveCall, PolicyVersion, Registration
from nomad.sip.events import Flow


def binding(number: int = 1, *, expires_at: float = 2000.0, transport: str = "udp") -> Binding:
    address = ("192.0.2.1", 1024 + number % 60000)
    return Binding(
        contact=f"sip:alice@192.0.2.1:{address[1]};transport={transport}",
        flow=Flow(transport, ("127.0.0.1", 5060), address, 0 if transport == "udp" else number),
        call_id=f"f81d4fae-7dec-11d0-a765-00a0c91e6bf6-{number}@192.0.2.1",
        cseq=number,
        expires_at=expires_at,
        q=0.5,
        instance=f"<urn:uuid:00000000-0000-1000-8000-{number:012d}>",
        reg_id=1,
        path=("<sip:edge@127.0.0.1;lr>",),
        params=(("methods", '"INVITE,BYE"'),),
        user_agent="Linphone/5.2.1 (Nomad test)",
        registered_at=1000.0,
        address="alice@inria.example",
    )


def registration(user: str = "alice", number: int = 1, *, version: int = 0, expires_at: float = 2000.0) -> Registration:
    grant = Grant(
        user=user,
        addresses=(f"{user}@inria.example",),
        extension=f"{1000 + number}",
        groups=("cn=staff,ou=groups,dc=inria,dc=example",),
        classes=(b"\x00\xff",),
        display_name=f"{user} Example",
    )
    return Registration(
        user=user,
        version=version,
        bindings=(binding(number, expires_at=expires_at),),
        extension=grant.extension,
        addresses=grant.addresses,
        grant=grant,
    )


def cdr(number: int = 1, *, user: str = "alice", started_at: float | None = None) -> Cdr:
    at = 1000.0 + number if started_at is None else started_at
    return Cdr(
        id=f"call-{number}", call_id=f"{number}@192.0.2.1", direction="out", user=user, caller=f"{user}@inria.example",
        callee="+33123456789@inria.example", number_class="national", started_at=at, answered_at=at + 2,
        ended_at=at + 62.5, duration_s=60.5, result="answered", status=200, rule="", reason="",
        terminate_cause="User-Request", peer="192.0.2.1:5060", user_agent="Linphone/5.2.1",
    )  # fmt: skip


def live(number: int = 1, *, data: bytes = b"\x00state") -> LiveCall:
    return LiveCall(f"call-{number}", data, 1000.0 + number)


def record(number: int = 1, *, status: str = "Start") -> AccountingRecord:
    attributes = (("Calling-Station-Id", "sip:alice@inria.example"), ("Acct-Delay-Time", 0), ("Class", b"\x00\xff"))
    return AccountingRecord(f"s{number}-{status}", f"s{number}", status, "alice", 1000.0 + number, attributes)


def policy_version(
    number: int = 1, *, text: str = "[classes]\n", restores: int | None = None, failed_tests: int = 0
) -> PolicyVersion:
    sha = hashlib.sha256(text.encode()).hexdigest()
    return PolicyVersion(number, 1000.0 + number, "alice", f"reason {number}", sha, text, restores, failed_tests)
