"""What a REGISTER says about flows and routes, and what its 200 says back: Outbound, Path, Service-Route.

RFC 5626, 3327, 3608. The bindings themselves are computed by `sip/bindings`, stored by `registrar.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nomad.edge.proxy import FLOW_FAILED, Branch, Retry
from nomad.ports import Binding
from nomad.sip.bindings import keeps_flows
from nomad.sip.errors import Reject
from nomad.sip.events import Flow
from nomad.sip.message import Request, Response

# How often a phone is asked to show that its flow is alive (RFC 5626 4.4); NATs forget UDP within half a minute.
FLOW_TIMER_S, UDP_FLOW_TIMER_S = 120, 25
GRACE_S = 30  # more than that, until a flow is given up (RFC 5626 10.2)
MAX_CLOSED = 10_000  # connections remembered as gone, for a REGISTER that is still being checked
OUTBOUND = "outbound"
BROWSER_TRANSPORTS = ("ws", "wss")  # RFC 7118
WEBRTC = b"UDP/TLS/RTP/SAVP"  # in the m lines of an offer that browsers take (RFC 8827 6.5)


def supports(request: Request, option: str) -> bool:
    """Whether a request lists an option tag as supported (RFC 3261 20.37)."""
    return request.has("supported") and option in request.elements("supported")


def check_register(request: Request) -> bool:
    """Whether the phone manages its flows (RFC 5626 4.2). Raises `Reject(439)` when a proxy before us does not (6)."""
    if not supports(request, OUTBOUND) or request.contact_star:
        return False
    if not any("reg-id" in contact.params and contact.params.get("+sip.instance") for contact in request.contacts):
        return False
    if not keeps_flows(request):
        raise Reject(439, rule="outbound", why="the first hop does not say ob in Path")
    return True


def flow_timer(flow: Flow, *, relayed: bool) -> int:
    """How often a phone is to send keepalives by this flow, seconds; 0 when it is not asked to.

    Those of a phone behind a proxy end there, and browsers cannot send any: we ping them (RFC 7118 6).
    """
    if relayed or flow.transport in BROWSER_TRANSPORTS:
        return 0
    return FLOW_TIMER_S if flow.reliable else UDP_FLOW_TIMER_S


def reply_headers(request: Request, flow: Flow, *, outbound: bool, service_route: str) -> list[tuple[str, str]]:
    """What the 200 says besides the contacts; a route to us unless `service_route` is empty."""
    headers: list[tuple[str, str]] = []
    if outbound:
        headers.append(("Require", OUTBOUND))  # RFC 5626 6
        if timer := flow_timer(flow, relayed=len(request.vias) > 1):
            headers.append(("Flow-Timer", str(timer)))
    paths = request.elements("path")
    if paths and supports(request, "path"):
        headers.append(("Path", ", ".join(paths)))  # RFC 3327 5.3
    if service_route and request.contacts:
        headers.append(("Service-Route", service_route))  # RFC 3608 6.3
    return headers


def targets(bindings: Iterable[Binding], now: float) -> list[Binding]:
    """Where a call rings: of several flows to one phone only the newest (RFC 5626 7: never two at a time)."""
    chosen: dict[tuple[str, int], Binding] = {}
    for index, binding in enumerate(bindings):
        if binding.expires_at <= now:
            continue
        key = (binding.instance, 0) if binding.instance and binding.reg_id else ("", index + 1)
        other = chosen.get(key)
        if other is None or binding.expires_at >= other.expires_at:
            chosen[key] = binding
    return list(chosen.values())


def other_flows(bindings: Iterable[Binding], chosen: Sequence[Binding], now: float) -> list[Binding]:
    """Further flows to the phones that were chosen to ring, newest first."""
    phones = {binding.instance for binding in chosen if binding.instance and binding.reg_id}
    others = [
        binding
        for binding in bindings
        if binding.reg_id and binding.instance in phones and binding not in chosen and binding.expires_at > now
    ]
    return sorted(others, key=lambda binding: -binding.expires_at)


def by_next_flow(
    bindings: Iterable[Binding], chosen: Sequence[Binding], now: float, to_phone: Callable[[Binding], Branch]
) -> Retry:
    """What takes the place of a branch to a phone whose flow is gone: one by the phone's next flow (RFC 5626 7)."""
    spares = other_flows(bindings, chosen, now)

    async def retry(response: Response | None, failed: Branch) -> Branch | None:
        spare = next((each for each in spares if each.instance == failed.instance), None)
        if spare is None or (response is not None and response.status != FLOW_FAILED):
            return None
        spares.remove(spare)
        branch = to_phone(spare)
        branch.request.body = failed.request.body
        return branch

    return retry


def takers(bindings: Sequence[Binding], offer: bytes) -> list[Binding]:
    """Those whose phones can take the media of an offer, which nobody translates: browsers WebRTC, others all else.

    Without an offer, everybody.
    """
    if not offer:
        return list(bindings)
    webrtc = WEBRTC in offer
    return [binding for binding in bindings if (binding.flow.transport in BROWSER_TRANSPORTS) is webrtc]


class Flows:
    """Whose registrations live on which flow; they die with it (RFC 5626 7)."""

    def __init__(self) -> None:
        self._users: dict[Flow, tuple[str, ...]] = {}
        self._closed: dict[Flow, None] = {}  # connections

    def note(self, user: str, bindings: Sequence[Binding], flow: Flow) -> bool:
        """Remember a registration by this flow; False when the flow is gone already."""
        if not any(lives_on(binding, flow) for binding in bindings):
            return True
        if flow in self._closed:
            return False
        users = self._users.get(flow, ())
        if user not in users:
            self._users[flow] = (*users, user)
        return True

    def close(self, flow: Flow) -> tuple[str, ...]:
        """Forget a flow that is gone; the users who registered by it. One over UDP may be taken up again."""
        if flow.reliable:
            if len(self._closed) >= MAX_CLOSED:
                del self._closed[next(iter(self._closed))]
            self._closed[flow] = None
        return self._users.pop(flow, ())


def lives_on(binding: Binding, flow: Flow) -> bool:
    """Whether a binding ends when this flow does: only phones that manage their flows know to come again."""
    return binding.reg_id > 0 and binding.flow == flow
