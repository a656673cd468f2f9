"""The dial plan: whom a Request-URI means. Pure; where that person or number is found, others know."""

from __future__ import annotations

from dataclasses import dataclass

from nomad.edge.addresses import OwnAddresses
from nomad.edge.policy import clean
from nomad.sip.errors import Reject
from nomad.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class Called:
    """The called party: a number, or else the SIP address of a member."""

    number: str = ""
    address: str = ""


def called_party(uri: Uri, own: OwnAddresses) -> Called:
    """Whom the Request-URI of a new request means. Raises `Reject` for what is not ours to serve."""
    if uri.scheme == "tel":
        number = clean(uri.user)
        if not number:
            raise Reject(484, rule="number", why=f"tel URI {uri.text}")
        return Called(number=number)
    if not own.is_us(uri):
        raise Reject(403, "Calls to other domains are not allowed", rule="foreign-domain", why=uri.host)
    name = uri.unescaped_user
    if not name:
        raise Reject(404, rule="number", why="no user in the Request-URI")
    number = clean(name.partition(";")[0])
    if number:
        return Called(number=number)
    return Called(address=f"{name.lower()}@{uri.host}")
