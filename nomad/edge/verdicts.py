"""Verdicts of the AAA server that may serve again: the same person's next proof is checked here, without a trip.

Only for servers that trust us with the person's HA1 (RFC 5090 3.19, Digest-HA1), which stays in memory and is never
written or shown. A proof that does not fit is never refused here: the AAA server is asked. Nonces and their counts are
judged before, in `auth.py`, for every proof. Implements `ports.Authenticator` around a `ports.Voucher`.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from nomad.clock import Clock
from nomad.metrics import Metrics
from nomad.ports import Grant, Proof, Refusal, Unavailable, Voucher
from nomad.sip.digest import HASHES

MAX_VERDICTS = 50_000


class Key(NamedTuple):
    """What a verdict is about: the secret of one login form in one algorithm."""

    username: str
    realm: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the AAA server said, and when."""

    grant: Grant
    ha1: str = field(repr=False)
    at: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class Trust:
    """How long a verdict serves; 0 is off."""

    grace_s: float
    """In place of asking the AAA server."""
    outage_s: float
    """When the AAA server was asked and did not answer."""


class Verdicts:
    """Remembers verdicts, and answers from them where it may."""

    def __init__(
        self, voucher: Voucher, trust: Trust, *, clock: Clock, metrics: Metrics, limit: int = MAX_VERDICTS
    ) -> None:
        self._voucher = voucher
        self._trust = trust
        self._clock = clock
        self._metrics = metrics
        self._limit = limit
        self._verdicts: OrderedDict[Key, Verdict] = OrderedDict()  # oldest first
        self._by_name: dict[str, tuple[Key, ...]] = {}  # login and addresses, lower case
        self._changes = 0  # how often something was forgotten: an answer that was asked for before is not kept

    def __len__(self) -> int:
        return len(self._verdicts)

    async def check(self, proof: Proof) -> Grant | Refusal:
        """From memory while that is good enough, else from the AAA server. Raises `Unavailable`."""
        key = Key(proof.username, proof.realm, proof.algorithm.upper())
        verdict = self._verdicts.get(key)
        proven = verdict is not None and is_right(proof, verdict.ha1)
        if verdict is not None and proven and self._serves(verdict, self._trust.grace_s):
            self._metrics.verdict("served")
            return verdict.grant
        changes = self._changes
        try:
            answer = await self._voucher.vouch(proof)
        except Unavailable:
            # Forgotten meanwhile: then it does not serve either.
            if (
                verdict is not None
                and proven
                and changes == self._changes
                and self._serves(verdict, self._trust.outage_s)
            ):
                self._metrics.verdict("outage")
                return verdict.grant
            raise
        if isinstance(answer, Refusal):
            if verdict is not None and proven:
                self.forget([verdict.grant.user])  # what fits our memory is good no more: new password, closed account
            return answer
        if changes == self._changes and (self._trust.grace_s or self._trust.outage_s):
            self._keep(key, Verdict(answer.grant, answer.ha1, self._clock.monotonic()))
        return answer.grant

    def answer(self, proof: Proof) -> str:
        """Our proof that we know the password too, to whoever gave that one and was let in (RFC 7616 3.5, rspauth).

        For an answer without body; "" when the AAA server does not trust us with the secret.
        """
        verdict = self._verdicts.get(Key(proof.username, proof.realm, proof.algorithm.upper()))
        if verdict is None or not proof.qop:
            return ""
        return _response(proof, verdict.ha1, "", HASHES[proof.algorithm.upper()](b"").hexdigest())

    def forget(self, names: Sequence[str]) -> int:
        """Forget what is known of people by their logins or addresses; how many verdicts went."""
        self._changes += 1
        keys = {key for name in names for key in self._by_name.get(name.lower(), ())}
        return self._forget_keys(sorted(keys))

    def amend(self, names: Sequence[str], change: Callable[[Grant], Grant]) -> int:
        """Change what is known of people by their logins or addresses; how many verdicts that were."""
        self._changes += 1
        keys = {key for name in names for key in self._by_name.get(name.lower(), ())}
        count = 0
        for key in keys:
            before = self._verdicts[key]
            grant = change(before.grant)
            if grant is not before.grant:
                self._verdicts[key] = replace(before, grant=grant)  # by the same names, and as old as before
                count += 1
        return count

    def clear(self) -> None:
        """Forget everything."""
        self._changes += 1
        self._verdicts.clear()
        self._by_name.clear()

    def _serves(self, verdict: Verdict, trust_s: float) -> bool:
        """An authorisation is no longer good than its Session-Timeout (RFC 2865 5.27)."""
        session_s = verdict.grant.session_timeout_s
        return self._clock.monotonic() - verdict.at < (trust_s if session_s is None else min(trust_s, session_s))

    def _keep(self, key: Key, verdict: Verdict) -> None:
        before = self._verdicts.get(key)
        if before is not None and before.ha1 != verdict.ha1:
            # Another password: what is known of the person's other login forms is of the old one.
            self.forget([before.grant.user])
        self._forget_keys([key])
        if not verdict.ha1:
            return
        while len(self._verdicts) >= self._limit:
            self._forget_keys([next(iter(self._verdicts))])
        self._verdicts[key] = verdict
        for name in _names(verdict.grant):
            self._by_name[name] = (*self._by_name.get(name, ()), key)

    def _forget_keys(self, keys: Sequence[Key]) -> int:
        count = 0
        for key in keys:
            verdict = self._verdicts.pop(key, None)
            if verdict is None:
                continue
            count += 1
            for name in _names(verdict.grant):
                held = self._by_name.pop(name)
                if len(held) > 1:
                    self._by_name[name] = tuple([each for each in held if each != key])
        return count


def is_right(proof: Proof, ha1: str) -> bool:
    """Whether a proof was made with this HA1 (RFC 7616 3.4.1), compared in constant time."""
    if proof.algorithm.upper() not in HASHES or proof.qop not in ("", "auth", "auth-int"):
        return False
    given = proof.response.lower().encode("utf-8", "surrogateescape")
    return hmac.compare_digest(_response(proof, ha1, proof.method, proof.body_hash.lower()).encode(), given)


def _response(proof: Proof, ha1: str, method: str, body_hash: str) -> str:
    """What a proof for this method and body would be (RFC 7616 3.4.1); without a method, our own answer (3.5)."""
    hashed = HASHES[proof.algorithm.upper()]

    def digest(*parts: str) -> str:
        return hashed(":".join(parts).encode("utf-8", "surrogateescape")).hexdigest()

    target = digest(method, proof.uri, body_hash) if proof.qop == "auth-int" else digest(method, proof.uri)
    middle = (proof.nonce, proof.nc, proof.cnonce, proof.qop) if proof.qop else (proof.nonce,)
    return digest(ha1, *middle, target)


def _names(grant: Grant) -> set[str]:
    return {name if name.islower() else name.lower() for name in (grant.user, *grant.addresses)}  # no copies
