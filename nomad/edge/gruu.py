"""GRUUs: URIs that reach one phone of a person, whatever address it has (RFC 5627).

A public one is an address of the person with the phone's instance in `gr`. A temporary one tells nothing: its user part
is an encrypted and signed name of the person and of the registration that it was given to. Nothing is kept of it; it is
good for as long as that registration lasts and comes with the same Call-ID (RFC 5627 3.1.2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace

from nomad.edge.addresses import OwnAddresses
from nomad.edge.calls import Leg
from nomad.edge.outbound import targets
from nomad.edge.routing import called_party
from nomad.ports import Binding, LocationStore, Registration
from nomad.sip.errors import Reject, SipError
from nomad.sip.uri import Uri

GRUU = "gruu"  # option tag (RFC 5627 11.3)
GR = "gr"  # URI parameter (RFC 5627 11.2)
TEMPORARY = "tgruu."
URN = "<urn:"
SALT_BYTES = 12
SIGNATURE_BYTES = 12
LIFE_BYTES = 8  # names one registration of one phone
BLOCK_BYTES = 16  # logins are filled up, so that the length of a temporary GRUU tells little
MAX_LOGIN_BYTES = 56  # together with the rest one block of the cipher


class Gruus:
    """Gives GRUUs and finds the phones that they name."""

    def __init__(
        self,
        key: bytes,
        *,
        locations: LocationStore,
        own: OwnAddresses,
        wall: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        """`wall` is Unix time."""
        self._cipher_key = hashlib.blake2b(key, digest_size=32, person=b"gruu cipher").digest()
        self._sign_key = hashlib.blake2b(key, digest_size=32, person=b"gruu signature").digest()
        self._locations = locations
        self._own = own
        self._wall = wall
        self._random = random

    def params(self, user: str, binding: Binding) -> str:
        """What the 200 to a REGISTER says of a phone's contact, "" when the phone has no usable instance (5.2, 5.4)."""
        name, _, host = binding.address.rpartition("@")
        instance = binding.instance
        if not (name and instance.startswith(URN) and instance.endswith(">")):
            return ""
        public = Uri.build(name, host, params={GR: instance[1:-1]})
        text = f';pub-gruu="{public}"'
        login = user.encode("utf-8", "surrogateescape")
        if len(login) <= MAX_LOGIN_BYTES:
            text += f';temp-gruu="{Uri.build(self._seal(login, binding), host, params={GR: None})}"'
        return text

    async def find(self, uri: Uri) -> Registration | None:
        """The person behind a GRUU with that one phone's bindings; None when the URI is none of our GRUUs.

        Raises `Reject` (RFC 5627 6.1): 404 when it means nothing any more, 480 when the phone is not registered.
        """
        if GR not in uri.params or not self._own.is_us(uri):
            return None
        instance = uri.params[GR]
        life = b""
        if instance:
            called = called_party(uri, self._own)
            user = await self._locations.find(called.number or called.address)
        else:
            user, life = self._open(uri.unescaped_user)
        registration = await self._locations.get(user)
        now = self._wall()
        live = [binding for binding in registration.bindings if binding.instance and binding.expires_at > now]
        if life:
            named = next((b.instance for b in live if hmac.compare_digest(self._life(b), life)), None)
            if named is None:
                raise Reject(404, rule="gruu", why="the registration of this temporary GRUU is over")
        else:
            named = f"<{instance}>"
        phone = tuple([binding for binding in live if _same_urn(binding.instance, named)])
        if not phone:
            raise Reject(480, "This phone is not registered", rule="unregistered", why=uri.text)
        return replace(registration, bindings=phone)

    async def follow(self, leg: Leg, user: str) -> None:
        """Where requests within a dialog go now, to a person's phone that gave a GRUU as its Contact (RFC 5627 6.1).

        A GRUU that means nothing any more, or that is another person's, changes nothing: the dialog's own flow is left.
        """
        try:
            found = await self.find(Uri.parse(leg.contact))
        except (Reject, SipError):
            return
        if found is None or found.user != user:
            return
        binding = targets(found.bindings, self._wall())[0]
        leg.target = binding.contact
        if leg.registered != binding.flow:  # else the phone may have moved since, and said so within the dialog
            leg.registered = leg.flow = binding.flow

    def check_contact(self, contact: Uri, address: Uri) -> None:
        """Raises `Reject` when a contact to be bound leads back to us: the address itself, or any GRUU (5.1)."""
        is_gruu = GR in contact.params and self._own.is_us(contact)
        if is_gruu or (contact.host == address.host and contact.equivalent(address)):
            raise Reject(403, "This contact leads back to the registrar", rule="contact", why=contact.text)

    def _seal(self, login: bytes, binding: Binding) -> str:
        """The user part of a temporary GRUU, different each time (RFC 5627 5.4)."""
        plain = self._life(binding) + login
        plain += bytes(-len(plain) % BLOCK_BYTES)
        salt = self._random(SALT_BYTES)
        sealed = salt + self._crypt(plain, salt)
        whole = base64.urlsafe_b64encode(sealed + self._sign(sealed)).decode().rstrip("=")
        return TEMPORARY + whole

    def _open(self, name: str) -> tuple[str, bytes]:
        """The login and the registration in a temporary GRUU. Raises `Reject`."""
        text = name.removeprefix(TEMPORARY)
        try:
            whole = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            whole = b""
        sealed, signature = whole[:-SIGNATURE_BYTES], whole[-SIGNATURE_BYTES:]
        size = len(sealed) - SALT_BYTES
        if text == name or not LIFE_BYTES < size <= LIFE_BYTES + MAX_LOGIN_BYTES:
            raise Reject(404, rule="gruu", why="no GRUU of ours")
        if not hmac.compare_digest(signature, self._sign(sealed)):
            raise Reject(404, rule="gruu", why="no GRUU of ours")
        plain = self._crypt(sealed[SALT_BYTES:], sealed[:SALT_BYTES])
        return plain[LIFE_BYTES:].rstrip(b"\0").decode("utf-8", "surrogateescape"), plain[:LIFE_BYTES]

    def _crypt(self, data: bytes, salt: bytes) -> bytes:
        """Both ways; no salt comes twice."""
        stream = hashlib.blake2b(salt, key=self._cipher_key).digest()
        return bytes([one ^ other for one, other in zip(data, stream, strict=False)])

    def _sign(self, sealed: bytes) -> bytes:
        return hashlib.blake2b(sealed, key=self._sign_key, digest_size=SIGNATURE_BYTES).digest()

    def _life(self, binding: Binding) -> bytes:
        """One registration of one phone, from when it began until it ends or has another Call-ID (RFC 5627 3.1.2)."""
        text = f"{binding.instance}\n{binding.call_id}\n{binding.registered_at!r}"
        data = text.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(data, key=self._sign_key, digest_size=LIFE_BYTES, person=b"life").digest()


def leads_to_phone(contact: str) -> bool:
    """Whether a Contact may be a GRUU; cheap, for every request within a call."""
    return ";gr" in contact


def _same_urn(one: str, other: str) -> bool:
    """Whether two instances are the same URN; those of UUIDs in any letter case (RFC 8141 3.1, RFC 4122 3)."""
    return one == other or (one.lower() == other.lower() and one[:10].lower() == "<urn:uuid:")
