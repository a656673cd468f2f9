"""REGISTER: whose addresses may be bound, storing the bindings, and ending those whose flow ended.

RFC 3261 10.3; what RFC 5626, 3327 and 3608 add is in `outbound.py`, RFC 5627 in `gruu.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from nomad import log
from nomad.clock import Clock
from nomad.config import Sip
from nomad.edge.addresses import OwnAddresses
from nomad.edge.auth import Identity
from nomad.edge.gruu import GRUU, Gruus
from nomad.edge.outbound import GRACE_S, Flows, check_register, flow_timer, lives_on, reply_headers, supports
from nomad.edge.policy import Ruleset, find_group
from nomad.ports import Binding, Conflict, FlowWatch, LocationStore, Unavailable
from nomad.sip.bindings import RegisterLimits, apply_register, contact_headers
from nomad.sip.errors import Reject
from nomad.sip.events import Flow
from nomad.sip.message import Request

logger = logging.getLogger(__name__)

DEFAULT_DEVICES = 10
SAVE_ATTEMPTS = 5
RETRY_AFTER_S = 5


class Registrar:
    """Applies REGISTER requests of identified people to the location store."""

    def __init__(
        self, sip: Sip, *, locations: LocationStore, gruus: Gruus, watch: FlowWatch, own: OwnAddresses, clock: Clock
    ) -> None:
        self._sip = sip
        self._watch = watch
        self._locations = locations
        self._gruus = gruus
        self._own = own
        self._clock = clock
        self._flows = Flows()

    async def register(
        self, request: Request, flow: Flow, identity: Identity, ruleset: Ruleset
    ) -> list[tuple[str, str]]:
        """Store the bindings and return the headers of the 200. Raises `Reject`."""
        address = request.to.uri
        if not identity.owns(address):
            raise Reject(403, "This address is not yours", rule="address", why=address.address)
        if not request.contact_star:
            for contact in request.contacts:
                self._gruus.check_contact(contact.uri, address)
        outbound = check_register(request)
        limits = self._limits(identity, ruleset)
        try:
            bindings = await self._save(request, flow, identity, limits)
            timer = flow_timer(flow, relayed=len(request.vias) > 1) if outbound else 0
            if not self._watch_over(identity.user, bindings, flow, timer):
                await self._end(identity.user, flow)
        except Unavailable as error:
            raise Reject(503, retry_after=RETRY_AFTER_S, rule="location", why=str(error)) from None
        more = reply_headers(request, flow, outbound=outbound, service_route=self._own.service_route(flow))
        gruu = partial(self._gruus.params, identity.user) if supports(request, GRUU) else None
        return contact_headers(bindings, self._clock.wall(), more=gruu) + more

    async def resume(self) -> None:
        """Wait for the keepalives of phones that registered over UDP with an earlier process."""
        async for stored in self._locations.browse():
            for binding in stored.bindings:
                if binding.reg_id and not binding.flow.reliable:
                    timer = flow_timer(binding.flow, relayed=bool(binding.path))
                    self._watch_over(stored.user, stored.bindings, binding.flow, timer)

    def _watch_over(self, user: str, bindings: Sequence[Binding], flow: Flow, timer: int) -> bool:
        """Hear of the end of a flow that registrations live on; False when it has come already.

        That of a connection, and of any flow by which a phone promised keepalives every `timer` seconds (RFC 5626 4.4).
        """
        if not flow.reliable and not timer:
            return True  # nobody would ever tell
        if not self._flows.note(user, bindings, flow):
            return False
        if timer:
            self._watch.expect_keepalives(flow, timer + GRACE_S)
        return True

    async def flow_closed(self, flow: Flow) -> None:
        """End the registrations that lived on a flow."""
        for user in self._flows.close(flow):
            try:
                await self._end(user, flow)
            except Unavailable as error:
                log.event(logger, "store-failed", level=logging.ERROR, what="locations", error=str(error))

    async def _end(self, user: str, flow: Flow) -> None:
        for _ in range(SAVE_ATTEMPTS):
            stored = await self._locations.get(user)
            left = tuple(binding for binding in stored.bindings if not lives_on(binding, flow))
            if left == stored.bindings:
                return
            try:
                await self._locations.save(replace(stored, bindings=left))
            except Conflict:
                continue
            log.event(logger, "flow-ended", user=user, peer=flow.remote[0], bindings=len(stored.bindings) - len(left))
            return

    async def _save(
        self, request: Request, flow: Flow, identity: Identity, limits: RegisterLimits
    ) -> tuple[Binding, ...]:
        address = request.to.uri.address
        address = next((each for each in identity.addresses if each == address), address)  # one object, see below
        for _ in range(SAVE_ATTEMPTS):
            stored = await self._locations.get(identity.user)
            now = self._clock.wall()
            bindings = apply_register(stored.bindings, request, now=now, flow=flow, limits=limits, address=address)
            if bindings == stored.bindings:
                return bindings
            # What a refresh says again is kept as it is: many registrations are held, so none should hold copies.
            grant = stored.grant if stored.grant == identity.grant else identity.grant
            addresses = tuple(sorted(identity.addresses))
            if addresses == stored.addresses:
                addresses = stored.addresses
            changed = replace(
                stored, bindings=bindings, grant=grant, extension=identity.grant.extension, addresses=addresses
            )
            try:
                await self._locations.save(changed)
            except Conflict:
                continue
            return bindings
        raise Reject(503, retry_after=RETRY_AFTER_S, rule="location", why="too many writers of one registration")

    def _limits(self, identity: Identity, ruleset: Ruleset) -> RegisterLimits:
        grant = identity.grant
        group = find_group(ruleset, grant.user, grant.groups, grant.classes)
        devices = DEFAULT_DEVICES if group is None or group.max_devices is None else group.max_devices
        return RegisterLimits(
            min_expires=self._sip.min_expires_s,
            max_expires=self._sip.max_expires_s,
            default_expires=self._sip.default_expires_s,
            max_bindings=devices,
        )
