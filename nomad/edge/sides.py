"""The two sides of the edge: requests as a PBX and a phone get them.

Decides nothing about who may ask what; what changes in every forwarded request is `proxy.py`'s part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nomad.config import Config
from nomad.edge.calls import Leg
from nomad.edge.proxy import (
    PHONE,
    Branch,
    Proxy,
    asserted_identity,
    hide_identity,
    remove_own_credentials,
    strip_untrusted,
)
from nomad.edge.trunks import Trunk
from nomad.ports import Binding, Grant
from nomad.sip.errors import SipError
from nomad.sip.events import Flow, ServerKey
from nomad.sip.message import Request, Response
from nomad.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request being served."""

    key: ServerKey
    request: Request
    flow: Flow


class Sides:
    """Makes what goes to a PBX and to phones."""

    def __init__(self, config: Config, *, proxy: Proxy) -> None:
        self._config = config
        self._proxy = proxy

    def to_pbx(
        self, incoming: Incoming, grant: Grant, number: str, *, trunk: Trunk, flow: Flow, token: str = ""
    ) -> Request:
        """A member's request as the PBX gets it: our assertion of who asks, and nothing that the phone claimed.

        `token` names the dialog in our Record-Route, when it makes one.
        """
        request = incoming.request
        forwarded = self._proxy.copy(
            request,
            source=incoming.flow,
            destination=flow,
            token=token,
            uri=str(Uri.build(number, trunk.uri.host, trunk.uri.port)),
        )
        self._vouch(forwarded, grant, request)
        return forwarded

    def _vouch(self, forwarded: Request, grant: Grant, request: Request) -> None:
        """Put our assertion of who asks in the place of what the phone claimed (RFC 3325)."""
        strip_untrusted(forwarded)
        remove_own_credentials(forwarded, self._config.domain)
        name = grant.extension or request.from_.uri.unescaped_user
        forwarded.add("p-asserted-identity", asserted_identity(grant.display_name, name, self._config.domain))

    def onward(self, incoming: Incoming, number: str, *, trunk: Trunk, flow: Flow, token: str) -> Request:
        """A PBX's call as a PBX gets it when a phone sends it on to another number."""
        uri = str(Uri.build(number, trunk.uri.host, trunk.uri.port))
        return self._proxy.copy(incoming.request, source=incoming.flow, destination=flow, token=token, uri=uri)

    def to_phone(self, incoming: Incoming, binding: Binding, *, token: str = "", branches: int = 1) -> Branch:
        """A PBX's request as one of so many phones of a member gets it."""
        forwarded = self._proxy.copy(
            incoming.request,
            source=incoming.flow,
            destination=binding.flow,
            token=token,
            uri=binding.contact,
            branches=branches,
        )
        for path in reversed(binding.path):
            forwarded.prepend("route", path)
        hide_identity(forwarded)
        return Branch(forwarded, binding.flow, PHONE, binding.instance if binding.reg_id else "")

    def phone_to_phone(
        self, incoming: Incoming, grant: Grant, binding: Binding, *, user: str, token: str = "", branches: int = 1
    ) -> Branch:
        """A member's request as one of so many phones of another member, `user`, gets it: with our assertion only."""
        branch = self.to_phone(incoming, binding, token=token, branches=branches)
        self._vouch(branch.request, grant, incoming.request)
        hide_identity(branch.request)
        return replace(branch, user=user)

    def within(self, request: Request, flow: Flow, *, sender: Leg, receiver: Leg, token: str = "") -> Request:
        """A request within a dialog as its other side gets it; `token` asks for a Record-Route.

        A phone's goes to the remote target by the route of the dialog, whatever the phone wrote there: its Request-URI
        and Route were never judged by the policy, and a PBX may well follow them.
        """
        target, destination = receiver.target, receiver.flow
        straight = sender.side == PHONE and bool(receiver.contact)
        if straight and not target:
            target = receiver.contact
        forwarded = self._proxy.copy(
            request, source=flow, destination=destination, token=token, uri=target, within=True
        )
        if straight:
            forwarded.remove("route")
            for route in receiver.routes:
                forwarded.add("route", route)
        guard_identity(forwarded, sender.side)
        if sender.side == PHONE:
            remove_own_credentials(forwarded, self._config.domain)
        return forwarded


def guard_identity(message: Request | Response, side: str) -> None:
    """What a phone asserts goes no further, and what the PBX asserts leaves only when the person agrees (RFC 3325)."""
    if side == PHONE:
        strip_untrusted(message)
    else:
        hide_identity(message)


def calling_leg(side: str, request: Request, flow: Flow) -> Leg:
    """The side that began a dialog with this request. Raises `SipError` when its Contact or route cannot be read."""
    if request.has("record-route"):
        _ = request.record_routes  # the answer will hold them too
    return Leg(
        side=side,
        flow=flow,
        tag=request.from_.tag,
        party=request.get("from") or "",
        contact=remote_target(request),
        cseq=request.cseq.number,
    )


def remote_target(message: Request | Response) -> str:
    """Where requests within a dialog are to go (RFC 3261 12.1), "" when none is named. Raises `SipError` for no URI."""
    contacts = message.contacts
    if not contacts:
        return ""
    _ = contacts[0].uri
    return contacts[0].uri_text


def new_target(message: Request | Response, old: str) -> str:
    """The same of a message that may refresh it (12.2): the old one stays when no other can be read."""
    try:
        return remote_target(message) or old
    except SipError:
        return old


def beyond_us(message: Request | Response, token: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Route sets towards who answered and who asked, split at our own Record-Route (RFC 3261 12.1)."""
    values = message.elements("record-route")
    marker = f";c={token}"
    ours = [index for index, value in enumerate(values) if marker in value]
    if not ours:
        return (), ()
    return tuple(reversed(values[: ours[0]])), tuple(values[ours[-1] + 1 :])
