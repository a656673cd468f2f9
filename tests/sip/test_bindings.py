from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from nomad.sip.bindings import (
    MAX_CONTACTS,
    MAX_PATHS,
    Binding,
    RegisterLimits,
    apply_register,
    contact_headers,
)
from nomad.sip.errors import Reject, SipError
from nomad.sip.events import Flow
from nomad.sip.message import Request
from tests.harness.sip import make_request

NOW = 1_800_000_000.0
LIMITS = RegisterLimits(min_expires=60, max_expires=7200, default_expires=600, max_bindings=3)
FLOW = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 40000))
OTHER_PORT = FLOW._replace(remote=("198.51.100.7", 40001))
OTHER_NAT = FLOW._replace(remote=("203.0.113.9", 40000))
PHONE = "<sip:alice@192.168.1.10:5060>"
UUID = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'


def register(
    *contacts: str,
    call_id: str = "reg-1",
    cseq: int = 1,
    expires: str | None = None,
    relayed: bool = False,
    headers: Iterable[str] = (),
) -> Request:
    lines = [*[f"Contact: {contact}" for contact in contacts], *headers]
    if expires is not None:
        lines.append(f"Expires: {expires}")
    if relayed:
        lines.append("Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK-0")
    return make_request("REGISTER", uri="sip:example.com", call_id=call_id, cseq=cseq, headers=lines)


def apply(
    request: Request,
    current: tuple[Binding, ...] = (),
    *,
    now: float = NOW,
    flow: Flow = FLOW,
    limits: RegisterLimits = LIMITS,
    address: str = "alice@example.com",
) -> tuple[Binding, ...]:
    return apply_register(current, request, now=now, flow=flow, limits=limits, address=address)


def rejected(request: Request, current: tuple[Binding, ...] = (), *, flow: Flow = FLOW) -> Reject:
    with pytest.raises(Reject) as caught:
        apply(request, current, flow=flow)
    return caught.value


def uris(bindings: Iterable[Binding]) -> list[str]:
    return [binding.contact for binding in bindings]


# -- what a binding holds ------------------------------------------------------------------------------------------


def test_a_contact_becomes_a_binding() -> None:
    (binding,) = apply(
        register(
            f'{PHONE};expires=300;q=0.5;{UUID};reg-id=2;audio;methods="INVITE, ACK"',
            headers=["Path: <sip:p1.example.com;lr>, <sip:p2.example.com;lr>", "User-Agent: Phone/1.0"],
        )
    )
    assert binding == Binding(
        contact="sip:alice@192.168.1.10:5060",
        flow=FLOW,
        call_id="reg-1",
        cseq=1,
        expires_at=NOW + 300,
        q=0.5,
        instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
        reg_id=2,
        path=("<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>"),
        params=(("audio", ""), ("methods", "INVITE, ACK")),
        user_agent="Phone/1.0",
        registered_at=NOW,
        address="alice@example.com",
    )


def test_the_answer_names_the_bindings_as_they_came() -> None:
    contact = f'<sip:alice@192.168.1.10:5060>;expires=300;q=0.5;{UUID};reg-id=2;audio;methods="INVITE, ACK"'
    assert contact_headers(apply(register(contact)), NOW) == [("Contact", contact)]


def test_the_answer_tells_what_is_left_and_leaves_out_what_is_over() -> None:
    bindings = apply(register(PHONE, "<sip:alice@192.168.1.11>;expires=100"))
    assert contact_headers(bindings, NOW + 99.9) == [
        ("Contact", "<sip:alice@192.168.1.10:5060>;expires=500"),
        ("Contact", "<sip:alice@192.168.1.11>;expires=1"),
    ]
    assert len(contact_headers(bindings, NOW + 100)) == 1
    assert contact_headers([], NOW) == []


@pytest.mark.parametrize(("text", "reg_id"), [("x", 0), ("0", 0), ("7", 7), ("2147483648", 0), ("99999999999999", 0)])
def test_a_reg_id_that_makes_no_sense_counts_as_none(text: str, reg_id: int) -> None:
    (binding,) = apply(register(f"{PHONE};{UUID};reg-id={text}"))
    assert binding.reg_id == reg_id


def test_a_reg_id_without_an_instance_counts_as_none() -> None:
    (binding,) = apply(register(f"{PHONE};reg-id=1"))
    assert (binding.instance, binding.reg_id) == ("", 0)


# -- how long ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("param", "header", "granted"),
    [
        ("", None, 600),
        ("", "300", 300),
        (";expires=200", "300", 200),
        (";expires=200", None, 200),
        (";expires=60", None, 60),
        (";expires=7201", None, 7200),
        (";expires=99999999999999", None, 7200),
        ("", "4294967296", 7200),
        (";expires=soon", "300", 600),  # RFC 3261 20.10: as if it were not there
        (";expires", "300", 600),
        ("", "soon", 600),
    ],
)
def test_the_contact_s_wish_counts_before_the_header_s(param: str, header: str | None, granted: int) -> None:
    (binding,) = apply(register(f"{PHONE}{param}", expires=header))
    assert binding.expires_at == NOW + granted


@pytest.mark.parametrize(("param", "header"), [(";expires=59", None), (";expires=1", "300"), ("", "59")])
def test_a_wish_too_brief_gets_423(param: str, header: str | None) -> None:
    reject = rejected(register(f"{PHONE}{param}", expires=header))
    assert (reject.status, reject.headers, reject.rule) == (423, (("Min-Expires", "60"),), "min-expires")


def test_an_hour_is_never_too_brief() -> None:
    limits = RegisterLimits(min_expires=7200, max_expires=9000)
    (binding,) = apply(register(f"{PHONE};expires=3600"), limits=limits)
    assert binding.expires_at == NOW + 3600
    with pytest.raises(Reject):
        apply(register(f"{PHONE};expires=3599"), limits=limits)


# -- queries, removals ---------------------------------------------------------------------------------------------


def test_without_contact_nothing_changes_but_what_is_over_goes() -> None:
    bindings = apply(register(PHONE, "<sip:alice@192.168.1.11>;expires=100"))
    assert apply(register(cseq=1), bindings) == bindings
    assert apply(register(cseq=2), bindings, now=NOW + 100) == bindings[:1]


def test_a_zero_expiry_removes_that_contact() -> None:
    bindings = apply(register(PHONE, "<sip:alice@192.168.1.11>"))
    left = apply(register(f"{PHONE};expires=0", cseq=2), bindings)
    assert uris(left) == ["sip:alice@192.168.1.11"]
    assert apply(register("<sip:alice@192.168.1.11>", cseq=3, expires="0"), left) == ()


def test_removing_what_is_not_there_is_no_error() -> None:
    assert apply(register(f"{PHONE};expires=0")) == ()


def test_a_star_removes_everything() -> None:
    bindings = apply(register(PHONE, "<sip:alice@192.168.1.11>"))
    assert apply(register("*", cseq=2, expires="0"), bindings) == ()
    assert apply(register("*", call_id="reg-2", expires="0"), bindings) == ()


def test_all_addresses_of_a_person_are_one_address_of_record() -> None:
    other = "<sip:1001@192.168.1.11>"
    bindings = apply(register(other, call_id="reg-2"), apply(register(PHONE)), address="1001@example.com")
    assert {binding.address for binding in bindings} == {"alice@example.com", "1001@example.com"}
    assert len(contact_headers(bindings, NOW)) == 2  # the 200 lists them all, whichever was registered (step 8)
    assert apply(register("*", call_id="reg-3", expires="0"), bindings) == ()


@pytest.mark.parametrize("expires", [None, "1", "3600", "soon"])
def test_a_star_needs_expires_0(expires: str | None) -> None:
    with pytest.raises(SipError):
        apply(register("*", expires=expires))


@pytest.mark.parametrize("contacts", [("*", PHONE), (PHONE, "*"), ("*, " + PHONE,), ("*", "*")])
def test_a_star_stands_alone(contacts: tuple[str, ...]) -> None:
    with pytest.raises(SipError):
        apply(register(*contacts, expires="0"))


# -- order ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cseq", [4, 5])
@pytest.mark.parametrize("contact", [PHONE, f"{PHONE};expires=0", "*"])
def test_an_older_request_of_the_same_call_id_changes_nothing(contact: str, cseq: int) -> None:
    bindings = apply(register(PHONE, cseq=5))
    reject = rejected(register(contact, cseq=cseq, expires="0" if contact == "*" else None), bindings)
    assert (reject.status, reject.rule) == (500, "cseq")


def test_another_call_id_starts_its_own_order() -> None:
    bindings = apply(register(PHONE, cseq=5))
    (binding,) = apply(register(PHONE, call_id="reg-2", cseq=1), bindings)
    assert (binding.call_id, binding.cseq) == ("reg-2", 1)


def test_all_contacts_are_taken_or_none() -> None:
    bindings = apply(register(PHONE, cseq=5))
    rejected(register("<sip:alice@192.168.1.11>", PHONE, cseq=5), bindings)
    rejected(register("<sip:alice@192.168.1.11>", "<sip:alice@192.168.1.12>;expires=5"), bindings)
    with pytest.raises(SipError):
        apply(register("<sip:alice@192.168.1.11>", "<sip:alice@>"), bindings)


# -- which phone it is ---------------------------------------------------------------------------------------------


def test_a_refresh_replaces_and_keeps_when_it_began() -> None:
    bindings = apply(register(PHONE))
    (binding,) = apply(register(PHONE, cseq=2), bindings, now=NOW + 300)
    assert (binding.cseq, binding.expires_at, binding.registered_at) == (2, NOW + 900, NOW)


def test_an_equivalent_contact_replaces() -> None:
    bindings = apply(register("<sip:%61lice@Phone.Example:5060;x=1>"))
    (binding,) = apply(register("<sip:alice@phone.example:5060>", call_id="reg-2"), bindings)
    assert binding.contact == "sip:alice@phone.example:5060"


def test_another_contact_is_another_binding() -> None:
    bindings = apply(register("<sip:alice@192.168.1.10:5060>"))
    for contact in ("<sip:alice@192.168.1.10:5061>", "<sips:alice@192.168.1.10:5060>", "<sip:bob@192.168.1.10:5060>"):
        assert len(apply(register(contact, cseq=2), bindings)) == 2


def test_an_equivalent_contact_from_another_port_of_the_same_address_replaces() -> None:
    bindings = apply(register(PHONE))
    (binding,) = apply(register(PHONE, call_id="reg-2"), bindings, flow=OTHER_PORT)
    assert binding.flow == OTHER_PORT


def test_the_same_private_contact_behind_another_nat_is_another_phone() -> None:
    bindings = apply(register(PHONE))
    both = apply(register(PHONE, call_id="reg-2"), bindings, flow=OTHER_NAT)
    assert [binding.flow for binding in both] == [FLOW, OTHER_NAT]
    left = apply(register(f"{PHONE};expires=0", call_id="reg-2", cseq=2), both, flow=OTHER_NAT)
    assert left == bindings


def test_a_phone_whose_nat_changed_is_known_by_its_call_id() -> None:
    bindings = apply(register(PHONE))
    (binding,) = apply(register(PHONE, cseq=2), bindings, flow=OTHER_NAT)
    assert binding.flow == OTHER_NAT


def test_a_phone_whose_nat_changed_is_known_by_its_instance() -> None:
    bindings = apply(register(f"{PHONE};{UUID}"))
    (binding,) = apply(register(f"<sip:x@10.0.0.1>;{UUID}", call_id="reg-2"), bindings, flow=OTHER_NAT)
    assert (binding.contact, binding.flow) == ("sip:x@10.0.0.1", OTHER_NAT)


def test_another_instance_is_another_phone_even_with_the_same_contact() -> None:
    bindings = apply(register(f"{PHONE};{UUID}"))
    other = UUID.replace("E128", "E129")
    assert len(apply(register(f"{PHONE};{other}", call_id="reg-2"), bindings)) == 2


def test_each_reg_id_of_an_instance_is_a_binding() -> None:
    bindings = apply(register(f"{PHONE};{UUID};reg-id=1"))
    bindings = apply(register(f"{PHONE};{UUID};reg-id=2", call_id="reg-2"), bindings, flow=OTHER_PORT)
    assert [binding.reg_id for binding in bindings] == [1, 2]
    bindings = apply(register(f"<sip:new@10.0.0.1>;{UUID};reg-id=1", call_id="reg-3"), bindings, flow=OTHER_NAT)
    assert [(binding.reg_id, binding.call_id) for binding in bindings] == [(2, "reg-2"), (1, "reg-3")]
    (binding,) = apply(register(f"{PHONE};{UUID}", call_id="reg-4"), bindings)
    assert binding.reg_id == 0


def test_a_phone_that_begins_to_name_its_instance_replaces_itself() -> None:
    bindings = apply(register(PHONE))
    (binding,) = apply(register(f"{PHONE};{UUID}", call_id="reg-2"), bindings)
    assert binding.instance
    (binding,) = apply(register(PHONE, call_id="reg-3"), (binding,))
    assert not binding.instance


def test_a_phone_that_forgot_itself_replaces_what_came_by_the_same_flow() -> None:
    bindings = apply(register("<sip:a1b2@192.168.1.10:5060>"))
    (binding,) = apply(register("<sip:c3d4@192.168.1.10:5060>", call_id="reg-2"), bindings)
    assert (binding.contact, binding.registered_at) == ("sip:c3d4@192.168.1.10:5060", NOW)


@pytest.mark.parametrize(
    ("contact", "call_id", "flow", "relayed"),
    [
        ("<sip:c3d4@192.168.1.10:5060>", "reg-1", FLOW, False),  # it still knows its other contact
        ("<sip:c3d4@192.168.1.10:5060>", "reg-2", OTHER_PORT, False),
        ("<sip:c3d4@192.168.1.10:5060>", "reg-2", FLOW, True),  # the flow of another proxy
        ("<sip:c3d4@192.168.1.11:5060>", "reg-2", FLOW, False),
        ("<sip:c3d4@192.168.1.10:5070>", "reg-2", FLOW, False),
        (f"<sip:c3d4@192.168.1.10:5060>;{UUID}", "reg-2", FLOW, False),
        ("<sip:c3d4@192.168.1.10:5060>;expires=0", "reg-2", FLOW, False),  # removes what it names only
    ],
)
def test_only_a_phone_that_forgot_itself_does(contact: str, call_id: str, flow: Flow, relayed: bool) -> None:
    bindings = apply(register("<sip:a1b2@192.168.1.10:5060>"))
    request = register(contact, call_id=call_id, cseq=2, relayed=relayed)
    assert bindings[0] in apply(request, bindings, flow=flow)


def test_the_same_contact_twice_in_one_request_is_one_binding() -> None:
    (binding,) = apply(register(f"{PHONE};q=0.1", f"{PHONE};q=0.2"))
    assert binding.q == 0.2
    assert apply(register(PHONE, f"{PHONE};expires=0")) == ()
    assert uris(apply(register(f"{PHONE};expires=0", PHONE, cseq=2), (binding,))) == ["sip:alice@192.168.1.10:5060"]


# -- bounds --------------------------------------------------------------------------------------------------------


def test_a_person_has_so_many_devices_and_no_more() -> None:
    bindings: tuple[Binding, ...] = ()
    for number in range(3):
        bindings = apply(register(f"<sip:alice@10.0.0.{number}>", call_id=f"reg-{number}"), bindings)
    reject = rejected(register("<sip:alice@10.0.0.9>", call_id="reg-9"), bindings)
    assert (reject.status, reject.rule) == (403, "devices")
    assert len(apply(register("<sip:alice@10.0.0.1>", call_id="reg-1", cseq=2), bindings)) == 3
    swapped = apply(
        register("<sip:alice@10.0.0.1>;expires=0", "<sip:alice@10.0.0.9>", call_id="reg-1", cseq=2), bindings
    )
    assert len(swapped) == 3


def test_who_has_too_many_already_may_refresh_them() -> None:
    bindings = tuple([replace(apply(register(f"<sip:alice@10.0.0.{n}>", call_id=f"reg-{n}"))[0]) for n in range(5)])
    assert len(apply(register("<sip:alice@10.0.0.1>", call_id="reg-1", cseq=2), bindings)) == 5
    rejected(register("<sip:alice@10.0.0.9>", call_id="reg-9"), bindings)


def test_bindings_that_are_over_make_room() -> None:
    bindings = apply(register(*[f"<sip:alice@10.0.0.{n}>;expires=100" for n in range(3)]))
    assert len(apply(register("<sip:alice@10.0.0.9>", call_id="reg-9"), bindings, now=NOW + 100)) == 1


def test_too_many_contacts_in_one_request_are_refused() -> None:
    contacts = [f"<sip:alice@10.0.0.{number}>;expires=0" for number in range(MAX_CONTACTS + 1)]
    assert apply(register(*contacts[1:])) == ()
    assert rejected(register(*contacts)).status == 403


def test_a_flow_is_registered_with_one_contact() -> None:
    managed = f"{PHONE};reg-id=1;{UUID}"
    reject = rejected(register(managed, "<sip:alice@10.0.0.1>"))
    assert (reject.status, reject.rule) == (400, "outbound")
    assert len(apply(register(managed, "<sip:alice@10.0.0.1>;expires=0"))) == 1


@pytest.mark.parametrize(
    ("path", "reg_id"), [("", 0), ("<sip:edge.example;lr>", 0), ("<sip:in.example;lr>, <sip:edge.example;lr;ob>", 2)]
)
def test_a_reg_id_means_nothing_behind_a_first_hop_that_keeps_no_flows(path: str, reg_id: int) -> None:
    headers = [f"Path: {path}"] if path else []
    (binding,) = apply(register(f"{PHONE};reg-id=2;{UUID}", relayed=True, headers=headers))
    assert binding.reg_id == reg_id


def test_contacts_of_other_schemes_are_refused() -> None:
    for contact in ("<tel:+33123456789>", "<mailto:alice@example.com>"):
        reject = rejected(register(contact))
        assert (reject.status, reject.rule) == (403, "scheme")


@pytest.mark.parametrize(
    "request_",
    [
        register(f"<sip:{'a' * 1020}@10.0.0.1>"),
        register(PHONE, headers=["Path: <sip:p.example.com;lr>"] * (MAX_PATHS + 1)),
        register(PHONE, headers=[f"Path: <sip:{'p' * 600}.example.com;lr>"]),
        register(f"{PHONE};q=2"),
        register(f"{PHONE};q=high"),
    ],
)
def test_what_is_too_long_or_malformed_is_a_sip_error(request_: Request) -> None:
    with pytest.raises(SipError):
        apply(request_)


def test_a_long_user_agent_is_cut() -> None:
    (binding,) = apply(register(PHONE, headers=["User-Agent: " + "x" * 500]))
    assert len(binding.user_agent) == 120


@pytest.mark.parametrize(
    ("contacts", "call_id", "relayed", "count"),
    [
        (("<sip:alice@198.51.100.7:40001>",), "reg-1", False, 1),  # rebound, and told so by STUN
        (("<sip:alice@198.51.100.7:40001>",), "reg-2", False, 2),  # another phone
        (("<sip:alice@198.51.100.7:40001>",), "reg-1", True, 2),
        (("<sip:other@198.51.100.7:40001>",), "reg-1", False, 2),
        ((f"<sip:alice@198.51.100.7:40001>;{UUID}",), "reg-1", False, 2),
        (("<sip:alice@198.51.100.7:40001>", "<sip:alice@192.168.1.77>"), "reg-1", False, 3),
    ],
)
def test_a_phone_that_moved_is_known_by_its_call_id(
    contacts: tuple[str, ...], call_id: str, relayed: bool, count: int
) -> None:
    bindings = apply(register("<sip:alice@198.51.100.7:40000>"))
    after = apply(register(*contacts, call_id=call_id, cseq=2, relayed=relayed), bindings, flow=OTHER_PORT)
    assert len(after) == count
    if count == 1:
        rejected(register("<sip:alice@198.51.100.7:40000>", cseq=2), after)  # late, from where it was before
