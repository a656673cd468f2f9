"""SIP digest credentials: computing, verifying, and their two RADIUS dialects (RFC 7616 3.4, RFC 5090, draft-sterman).

Pure. MD5, SHA-256 and SHA-512-256, each with -sess; no qop, auth and auth-int. Does not judge nonces: the edge made
them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from radius.errors import PacketError
from radius.packet import Packet, attribute, split_attributes

DIGEST_RESPONSE = 206  # draft-sterman
DIGEST_ATTRIBUTES = 207
RFC5090_RESPONSE = 103
RFC5090_REALM = 104
RFC5090_RESPONSE_AUTH = 106
RFC5090_ALGORITHM = 111
RFC5090_HA1 = 121
# Field of `Digest`, sub-attribute of Digest-Attributes, attribute of RFC 5090. 0: the dialect has none.
FIELDS = (
    ("realm", 1, 104),
    ("nonce", 2, 105),
    ("method", 3, 108),
    ("uri", 4, 109),
    ("qop", 5, 110),
    ("algorithm", 6, 111),
    ("body_hash", 7, 112),
    ("cnonce", 8, 113),
    ("nc", 9, 114),
    ("username", 10, 115),
    ("opaque", 0, 116),
)
_STERMAN = {sub: field for field, sub, _ in FIELDS if sub}
_RFC5090 = {type: field for field, _, type in FIELDS}
_HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
ALGORITHMS = tuple(_HASHES)


@dataclass(frozen=True, slots=True)
class Digest:
    """Credentials as a phone sent them, with the method that they were made for."""

    username: str
    realm: str
    nonce: str
    uri: str
    method: str
    response: str
    algorithm: str = "MD5"
    qop: str = ""
    nc: str = ""
    cnonce: str = ""
    opaque: str = ""
    body_hash: str = ""  # hex, for qop=auth-int

    @property
    def base_algorithm(self) -> str:
        """MD5, SHA-256 or SHA-512-256, whatever the letter case and without -sess; "" when it is none of them."""
        name = self.algorithm.upper() or "MD5"
        name = name.removesuffix("-SESS")
        return name if name in _HASHES else ""


def _hash(algorithm: str) -> Callable[[str], str]:
    name = _HASHES[algorithm]

    def digest(text: str) -> str:
        return hashlib.new(name, text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()

    return digest


def make_ha1(algorithm: str, username: str, realm: str, password: str) -> str:
    """H(username:realm:password) in hex (RFC 7616 3.4.2); `algorithm` without -sess."""
    return _hash(algorithm)(f"{username}:{realm}:{password}")


def response_for(digest: Digest, ha1: str, *, method: str | None = None) -> str:
    """The response that these credentials should carry (RFC 7616 3.4.1). Raises `PacketError` for an unknown algorithm.

    `method` "" gives the value of rspauth, with which a server proves that it knows the secret (RFC 7616 3.5).
    """
    algorithm = digest.base_algorithm
    if not algorithm:
        raise PacketError("algorithm", "unknown digest algorithm")
    h = _hash(algorithm)
    if digest.algorithm.upper().endswith("-SESS"):
        ha1 = h(f"{ha1}:{digest.nonce}:{digest.cnonce}")
    qop = digest.qop.lower()
    a2 = f"{digest.method if method is None else method}:{digest.uri}"
    if qop == "auth-int":
        a2 = f"{a2}:{digest.body_hash.lower() or h('')}"
    if qop:
        return h(f"{ha1}:{digest.nonce}:{digest.nc}:{digest.cnonce}:{digest.qop}:{h(a2)}")
    return h(f"{ha1}:{digest.nonce}:{h(a2)}")


def verify(digest: Digest, ha1: str) -> bool:
    """Whether the response is right, compared in constant time. False for an unknown algorithm or qop."""
    if not digest.base_algorithm or digest.qop.lower() not in ("", "auth", "auth-int"):
        return False
    expected = response_for(digest, ha1).encode()
    return hmac.compare_digest(expected, digest.response.lower().encode("utf-8", "surrogateescape"))


def to_sterman(digest: Digest) -> bytes:
    """Digest-Response and one Digest-Attributes per field, as SIP servers send them. Raises `EncodingError`."""
    parts = [attribute(DIGEST_RESPONSE, _octets(digest.response))]
    for field, sub, _ in FIELDS:
        value = getattr(digest, field)
        if sub and value:
            parts.append(attribute(DIGEST_ATTRIBUTES, attribute(sub, _octets(value))))
    return b"".join(parts)


def to_rfc5090(digest: Digest) -> bytes:
    """The attributes of RFC 5090 3. Raises `EncodingError`."""
    parts = [attribute(RFC5090_RESPONSE, _octets(digest.response))]
    for field, _, type in FIELDS:
        value = getattr(digest, field)
        if value:
            parts.append(attribute(type, _octets(value)))
    return b"".join(parts)


def from_packet(packet: Packet) -> Digest | None:
    """The credentials in an Access-Request of either dialect, None when there are none. Raises `PacketError`."""
    values: dict[str, str] = {}
    if (response := packet.get(DIGEST_RESPONSE)) is not None:
        for value in packet.get_all(DIGEST_ATTRIBUTES):
            for sub, part in split_attributes(value, 0):
                _keep(values, _STERMAN.get(sub), part)
    elif (response := packet.get(RFC5090_RESPONSE)) is not None:
        for type, part in packet.attributes:
            _keep(values, _RFC5090.get(type), part)
    else:
        return None
    if missing := [name for name in ("realm", "nonce", "uri", "method") if not values.get(name)]:
        raise PacketError("digest", f"digest without {', '.join(missing)}")
    values.setdefault("username", packet.text(1))
    return Digest(response=_text(response), **values)


def is_rfc5090(packet: Packet) -> bool:
    """Whether the credentials came in the dialect of RFC 5090."""
    return packet.get(DIGEST_RESPONSE) is None and packet.get(RFC5090_RESPONSE) is not None


def _keep(values: dict[str, str], field: str | None, part: bytes) -> None:
    if field is None:
        return
    if field in values:
        # Two values of one field: somebody hopes that we check one and somebody else believes the other.
        raise PacketError("digest", f"digest with two values of {field}")
    values[field] = _text(part)


def _octets(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
