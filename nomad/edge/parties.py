"""Whom a URI means among those who are registered: a person, a number, or one phone named by a GRUU (RFC 5627)."""

from __future__ import annotations

from nomad.edge.addresses import OwnAddresses
from nomad.edge.calls import Leg
from nomad.edge.gruu import GR, Gruus, leads_to_phone
from nomad.edge.proxy import PHONE
from nomad.edge.routing import called_party
from nomad.ports import LocationStore, Registration
from nomad.sip.errors import Reject
from nomad.sip.uri import Uri


class Parties:
    """Looks up who is called."""

    def __init__(self, own: OwnAddresses, locations: LocationStore, gruus: Gruus) -> None:
        self._own = own
        self._locations = locations
        self._gruus = gruus

    async def phone_of(self, uri: Uri) -> Registration | None:
        """The person and the one phone that a GRUU names; None when the URI is none. Raises `Reject`."""
        return await self._gruus.find(uri) if GR in uri.params else None

    async def called(self, uri: Uri) -> tuple[Registration, str]:
        """Whose phones ring, and the number that was called. Raises `Reject` when nobody's do."""
        phone = await self.phone_of(uri)
        if phone is not None:
            return phone, phone.extension
        called = called_party(uri, self._own)
        name = called.number or called.address
        user = await self._locations.find(name)
        if not user:
            raise Reject(480, "Nobody is registered at this extension", rule="unregistered", why=name)
        registration = await self._locations.get(user)
        return registration, called.number or registration.extension

    async def number_of(self, uri: Uri, phone: Registration | None = None) -> str:
        """The number that a URI means, or that of the person whose `phone` it names. Raises `Reject`."""
        if phone is not None and phone.extension:
            return phone.extension
        called = called_party(uri, self._own)
        if called.number:
            return called.number
        user = await self._locations.find(called.address)
        if user:
            registration = await self._locations.get(user)
            if registration.extension:
                return registration.extension
        raise Reject(404, rule="unknown-address", why=called.address)

    async def follow(self, receiver: Leg, user: str) -> None:
        """Find the phone of a person whose Contact in a dialog is a GRUU (RFC 5627 6.1)."""
        if receiver.side == PHONE and leads_to_phone(receiver.contact):
            await self._gruus.follow(receiver, user)
