"""The registrar's rule: old bindings and a REGISTER give new bindings or a `Reject` (RFC 3261 10.3, 5626, 3327).

Pure. Does not store anything and does not check who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from sys import intern
from typing import Final

from nomad.sip.errors import Reject, SipError
from nomad.sip.events import Flow
from nomad.sip.grammar import format_params, parse_delta_seconds, parse_number, parse_q, quote
from nomad.sip.headers import NameAddr
from nomad.sip.message import Request
from nomad.sip.uri import Uri

MAX_CONTACTS: Final = 10  # in one REGISTER
MAX_CONTACT_CHARS: Final = 1024  # of one, with its parameters
MAX_PATHS: Final = 10
MAX_PATH_CHARS: Final = 512
MAX_USER_AGENT_CHARS: Final = 120
NEVER_TOO_BRIEF_S: Final = 3600  # RFC 3261 10.3 step 7: 423 is for less than an hour only
# What has a field of its own, and what only a registrar says (RFC 5627 5.1: ignored)
KNOWN_PARAMS: Final = frozenset({"expires", "q", "+sip.instance", "reg-id", "pub-gruu", "temp-gruu"})


@dataclass(frozen=True, slots=True)
class Binding:
    """One registered contact of a person (RFC 3261 10.3) and the flow that it registered on (RFC 5626)."""

    contact: str  # the Contact URI as the phone wrote it
    flow: Flow
    call_id: str
    cseq: int
    expires_at: float  # Unix seconds
    q: float = 1.0
    instance: str = ""  # +sip.instance
    reg_id: int = 0
    path: tuple[str, ...] = ()  # RFC 3327
    params: tuple[tuple[str, str], ...] = ()  # further Contact parameters, as received
    user_agent: str = ""
    registered_at: float = 0.0
    address: str = ""  # the address of record it registered, user@domain


@dataclass(frozen=True, slots=True)
class RegisterLimits:
    """How long and how many; seconds."""

    min_expires: int = 60
    max_expires: int = 7200
    default_expires: int = 3600
    max_bindings: int = 10


def apply_register(
    current: tuple[Binding, ...],
    request: Request,
    *,
    now: float,
    flow: Flow,
    limits: RegisterLimits,
    address: str,
) -> tuple[Binding, ...]:
    """The bindings after a REGISTER, all or nothing. Raises `Reject` or `SipError`.

    `now` is Unix seconds; expired bindings are left out. Without Contact nothing changes (a query). All addresses of a
    person are one address of record, of which they are aliases (RFC 3261 10.3 step 5 leaves the canonical form to the
    registrar): a phone that registers two of them rings once, and `Contact: *` on any removes every binding.
    """
    kept = [binding for binding in current if binding.expires_at > now]
    allowed = max(limits.max_bindings, len(kept))  # who has too many already may still refresh them
    if request.contact_star:
        if request.expires != 0:
            raise SipError("contact", "Contact: * needs Expires: 0", header="Contact")
        _check_order(kept, request)
        return ()
    contacts = request.contacts
    if len(contacts) > MAX_CONTACTS:
        raise Reject(403, "Too many contacts in one request", rule="devices")
    added: list[Binding] = []
    for contact in contacts:
        _check_contact(contact)
        seconds = _expires(contact, request, limits)
        new = _binding(contact, request, expires_at=now + seconds, now=now, flow=flow, address=address)
        replaced = [old for old in kept if _replaces(new, old) or (seconds and _is_the_same_phone(new, old, request))]
        if replaced:
            _check_order(replaced, request)
            kept = [old for old in kept if old not in replaced]
            new = replace(new, registered_at=min([old.registered_at for old in replaced]))
        added = [other for other in added if not _replaces(new, other)]
        if seconds:
            added.append(new)
    if len(added) > 1 and any(new.reg_id for new in added):
        raise Reject(400, "A flow is registered with one Contact", rule="outbound")  # RFC 5626 6
    if len(kept) + len(added) > allowed:
        raise Reject(403, f"Only {limits.max_bindings} devices may register", rule="devices")
    return (*kept, *added)


def contact_headers(
    bindings: Iterable[Binding], now: float, *, more: Callable[[Binding], str] | None = None
) -> list[tuple[str, str]]:
    """Contact headers of the 200 to a REGISTER: every binding and how long it still lasts (RFC 3261 10.3 step 8).

    `more` gives further parameters of a contact, as they are written.
    """
    headers = []
    for binding in bindings:
        if binding.expires_at <= now:
            continue
        value = f"<{binding.contact}>;expires={max(1, round(binding.expires_at - now))}"
        if binding.q != 1.0:
            value += f";q={binding.q:g}"
        if binding.instance:
            value += f";+sip.instance={quote(binding.instance)}"
        if binding.reg_id:
            value += f";reg-id={binding.reg_id}"
        value += format_params({name: param or None for name, param in binding.params})
        if more is not None:
            value += more(binding)
        headers.append(("Contact", value))
    return headers


def _check_contact(contact: NameAddr) -> None:
    if contact.uri.scheme not in ("sip", "sips"):
        raise Reject(403, "Contact must be a sip URI", rule="scheme")  # RFC 5627 5.1
    if len(str(contact)) > MAX_CONTACT_CHARS:
        raise SipError("contact", "contact is too long", header="Contact")


def _expires(contact: NameAddr, request: Request, limits: RegisterLimits) -> int:
    """Seconds to bind for; 0 removes (RFC 3261 10.3 step 7). A malformed wish counts as none (20.10, 20.19)."""
    try:
        seconds = parse_delta_seconds(contact.params["expires"] or "") if "expires" in contact.params else None
        if seconds is None:
            seconds = request.expires
    except SipError:
        seconds = None
    if seconds is None:
        seconds = limits.default_expires
    if 0 < seconds < min(limits.min_expires, NEVER_TOO_BRIEF_S):
        raise Reject(423, headers=(("Min-Expires", str(limits.min_expires)),), rule="min-expires")
    return min(seconds, limits.max_expires)


def _check_order(replaced: Iterable[Binding], request: Request) -> None:
    """Within one Call-ID an older request changes nothing (RFC 3261 10.3 steps 6 and 7)."""
    call_id, number = request.call_id, request.cseq.number
    if any(old.call_id == call_id and number <= old.cseq for old in replaced):
        raise Reject(500, "Out of order", rule="cseq")  # not "CSeq": SIPp 3.6 would look for the header there


def _replaces(new: Binding, old: Binding) -> bool:
    """Whether both are the same phone, so that the new binding takes the place of the old one.

    Two instances decide (RFC 5626 6). Otherwise it is the URI (RFC 3261 10.3 step 7), but phones behind different NATs
    may have the same private address: the two must come from one place, or from one registration.
    """
    if new.instance and old.instance:
        return new.instance == old.instance and (new.reg_id == old.reg_id or not new.reg_id or not old.reg_id)
    if new.flow.remote[0] != old.flow.remote[0] and new.call_id != old.call_id:
        return False
    return new.contact == old.contact or Uri.parse(new.contact).equivalent(Uri.parse(old.contact))


def _is_the_same_phone(new: Binding, old: Binding, request: Request) -> bool:
    """Whether a phone with another Contact is one that we know, so that no binding is left that rings nowhere.

    One that forgot its old registration comes by the same flow with another Call-ID; some make up a new user part each
    time. One that was rebound by its NAT, or connects anew, comes by another flow with the same Call-ID and one Contact
    that names its new address. What another proxy relays shares that proxy's flow and proves nothing.
    """
    moved = new.flow != old.flow
    if new.instance or old.instance or moved != (new.call_id == old.call_id) or len(request.vias) > 1:
        return False
    one, other = Uri.parse(new.contact), Uri.parse(old.contact)
    if moved:
        return one.user == other.user and len(request.contacts) == 1
    return (one.host, one.port) == (other.host, other.port)


def _binding(
    contact: NameAddr, request: Request, *, expires_at: float, now: float, flow: Flow, address: str
) -> Binding:
    paths = tuple(request.elements("path"))
    if len(paths) > MAX_PATHS or any(len(path) > MAX_PATH_CHARS for path in paths):
        raise SipError("path", "Path is too long", header="Path")
    for path in paths:  # each will be a Route
        try:
            _ = NameAddr.parse(path).uri
        except SipError as error:
            error.header = "Path"
            raise
    instance = contact.params.get("+sip.instance") or ""
    return Binding(
        contact=contact.uri_text,
        flow=flow,
        call_id=request.call_id,
        cseq=request.cseq.number,
        expires_at=expires_at,
        q=_q(contact),
        instance=instance,
        reg_id=_reg_id(contact) if instance and keeps_flows(request) else 0,  # RFC 5626 6: else it means nothing
        path=paths,
        params=tuple([(name, value or "") for name, value in contact.params.items() if name not in KNOWN_PARAMS]),
        user_agent=intern((request.get("user-agent") or "")[:MAX_USER_AGENT_CHARS]),  # many phones, few models
        registered_at=now,
        address=address,
    )


def keeps_flows(request: Request) -> bool:
    """Whether the first hop of a REGISTER keeps the phone's flows: we do, a proxy before us says so (RFC 5626 6)."""
    if not request.has_more("via"):
        return True
    first = request.elements("path")[-1:]
    return bool(first) and "ob" in NameAddr.parse(first[0]).uri.params


def _reg_id(contact: NameAddr) -> int:
    """The reg-id, 0 when there is none that makes sense (RFC 5626 4.2)."""
    try:
        return parse_number(contact.params.get("reg-id") or "0", below=2**31)
    except SipError:
        return 0


def _q(contact: NameAddr) -> float:
    try:
        return parse_q(contact.params.get("q") or "1")
    except SipError:
        raise SipError("q", "q is no number between 0 and 1", header="Contact") from None
