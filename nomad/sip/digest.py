"""Answers a digest challenge, for peers that challenge us (RFC 7616 3.4, RFC 3261 22).

Pure. Checking what phones answer is the AAA server's part, not done here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

from nomad.sip.headers import Challenge, Credentials

HASHES: Final[dict[str, Callable[[bytes], hashlib._Hash]]] = {
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data),
    "SHA-256": hashlib.sha256,
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False),
}


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """The strongest digest challenge that can be answered, None when there is none."""
    found = {
        (challenge.get("algorithm") or "MD5").upper(): challenge
        for challenge in challenges
        if challenge.scheme.lower() == "digest" and challenge.get("realm") and challenge.get("nonce")
    }
    return next((found[name] for name in HASHES if name in found), None)


def answer(
    challenge: Challenge, *, method: str, uri: str, username: str, password: str, cnonce: str, count: int = 1
) -> Credentials:
    """Credentials for a request; `count` is how often the nonce was used, this time included."""
    algorithm = (challenge.get("algorithm") or "MD5").upper()
    realm, nonce = challenge.get("realm"), challenge.get("nonce")
    qop = "auth" if "auth" in [each.strip() for each in challenge.get("qop").lower().split(",")] else ""
    nc = f"{count:08x}"

    def digest(*parts: str) -> str:
        return HASHES[algorithm](":".join(parts).encode("utf-8", "surrogateescape")).hexdigest()

    secret, target = digest(username, realm, password), digest(method, uri)
    response = digest(secret, nonce, nc, cnonce, qop, target) if qop else digest(secret, nonce, target)
    params = {"username": username, "realm": realm, "nonce": nonce, "uri": uri, "response": response}
    params["algorithm"] = algorithm
    if challenge.get("opaque"):
        params["opaque"] = challenge.get("opaque")
    if qop:
        params |= {"qop": qop, "nc": nc, "cnonce": cnonce}
    return Credentials("Digest", params)
