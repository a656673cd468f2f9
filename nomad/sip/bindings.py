"""The registrar's rule: old bindings and a REGISTER give new bindings or a `Reject` (RFC 3261 10.3, 5626, 3327).

Pure. Does not store anything and does not check who asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nomad.sip.errors import Reject, SipError
from nomad.sip.events import Flow
from nomad.sip.headers import NameAddr
from nomad.sip.message import Request
from nomad.sip.uri import Uri

MAX_CONTACTS: Final = 10  # in one REGISTER
MAX_PATHS: Final = 10
KNOWN_PARAMS: Final = frozenset({"expires", "q", "+sip.instance", "reg-id"})


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

    `now` is Unix seconds; expired bindings are left out. Without Contact nothing changes (a query).
    """
    kept = [binding for binding in current if binding.expires_at > now]
    if request.contact_star:
        if request.expires != 0:
            raise SipError("contact", "Contact: * needs Expires: 0", header="Contact")
        for binding in kept:
            _check_order(binding, request)
        return ()
    contacts = request.contacts
    if len(contacts) > MAX_CONTACTS:
        raise Reject(403, "Too many contacts in one request", rule="devices")
    for contact in contacts:
        seconds = _expires(contact, request, limits)
        old = _matching(kept, contact, flow)
        if old is not None:
            _check_order(old, request)
            kept.remove(old)
        if seconds:
            kept.append(
                _binding(contact, request, expires_at=now + seconds, now=now, flow=flow, address=address, old=old)
            )
    if len(kept) > limits.max_bindings and len(kept) > len(current):
        raise Reject(403, f"Only {limits.max_bindings} devices may register", rule="devices")
    return tuple(kept)


def contact_headers(bindings: Iterable[Binding], now: float) -> list[tuple[str, str]]:
    """Contact headers of the 200 to a REGISTER: every binding and how long it still lasts (RFC 3261 10.3 step 8)."""
    headers = []
    for binding in bindings:
        left = max(0, round(binding.expires_at - now))
        value = f"<{binding.contact}>;expires={left}"
        if binding.q != 1.0:
            value += f";q={binding.q:g}"
        if binding.instance:
            value += f';+sip.instance="{binding.instance}"'
        if binding.reg_id:
            value += f";reg-id={binding.reg_id}"
        headers.append(("Contact", value))
    return headers


def _expires(contact: NameAddr, request: Request, limits: RegisterLimits) -> int:
    """Seconds to bind for; 0 removes (RFC 3261 10.3 step 7)."""
    text = contact.params.get("expires")
    wish = request.expires
    seconds = limits.default_expires if wish is None else wish
    if text:
        if not text.isascii() or not text.isdecimal():
            raise SipError("expires", "expires of a contact is no number", header="Contact")
        seconds = int(text) if len(text) < 11 else limits.max_expires
    if 0 < seconds < limits.min_expires:
        raise Reject(423, headers=(("Min-Expires", str(limits.min_expires)),), rule="min-expires")
    return min(seconds, limits.max_expires)


def _matching(bindings: list[Binding], contact: NameAddr, flow: Flow) -> Binding | None:
    """The binding that a contact updates: same instance and reg-id (RFC 5626 6), else an equivalent URI."""
    instance, reg_id = _instance(contact), _reg_id(contact)
    for binding in bindings:
        if instance and binding.instance:
            if instance == binding.instance and (reg_id == binding.reg_id or not reg_id or not binding.reg_id):
                return binding
        elif Uri.parse(binding.contact).equivalent(contact.uri) and _same_place(binding, flow):
            return binding
    return None


def _same_place(binding: Binding, flow: Flow) -> bool:
    """Two phones behind different NATs may have the same private contact; they are told apart by where they are."""
    return binding.flow.remote[0] == flow.remote[0]


def _check_order(binding: Binding, request: Request) -> None:
    """An older request of the same Call-ID changes nothing (RFC 3261 10.3 step 6 and 7)."""
    if binding.call_id == request.call_id and request.cseq.number <= binding.cseq:
        raise Reject(500, "CSeq is not higher than before", rule="cseq")


def _binding(
    contact: NameAddr, request: Request, *, expires_at: float, now: float, flow: Flow, address: str, old: Binding | None
) -> Binding:
    if contact.uri.scheme not in ("sip", "sips"):
        raise Reject(416, "Contact must be a sip URI", rule="scheme")
    paths = tuple(request.elements("path"))
    if len(paths) > MAX_PATHS:
        raise SipError("path", "too many Path headers", header="Path")
    return Binding(
        contact=contact.uri_text,
        flow=flow,
        call_id=request.call_id,
        cseq=request.cseq.number,
        expires_at=expires_at,
        q=_q(contact),
        instance=_instance(contact),
        reg_id=_reg_id(contact),
        path=paths,
        params=tuple((name, value or "") for name, value in contact.params.items() if name not in KNOWN_PARAMS),
        user_agent=(request.get("user-agent") or "")[:120],
        registered_at=old.registered_at if old is not None else now,
        address=address,
    )


def _instance(contact: NameAddr) -> str:
    return (contact.params.get("+sip.instance") or "").strip('"')


def _reg_id(contact: NameAddr) -> int:
    text = contact.params.get("reg-id") or ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0


def _q(contact: NameAddr) -> float:
    text = contact.params.get("q")
    if text is None:
        return 1.0
    try:
        value = float(text) if len(text) < 6 else 1.0
    except ValueError:
        raise SipError("q", "q is no number", header="Contact") from None
    return min(max(value, 0.0), 1.0)
