"""Which digest algorithms a person's phone is offered, in which order (RFC 7616 3.7, RFC 8760 2.3).

Phones take the first challenge that they know, and some fail when a challenge names what they do not know: so the offer
depends on who asks and with what. Pure; the challenges themselves are `auth.py`'s part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nomad.config import ALGORITHMS, Config, DigestRule

MAX_AGENT_CHARS = 200
# Seen in the field: baresip 1.x does not register when any challenge names another algorithm than MD5, and SIP.js looks
# at the last challenge only; SIPp 3.6, sipsak and JsSIP fail when another comes first; Linphone takes the first. Since
# phones are to take the first that they know, a second one after MD5 brings nothing: the unknown get MD5 alone, and who
# is known to do better is offered better first.
FIELD_RULES = (
    DigestRule(user_agent=r"^baresip(?! v?(?:[2-9]|[1-9]\d))|^SIP\.js|^JsSIP", offer=("MD5",)),
    DigestRule(user_agent=r"^linphone", offer=("SHA-256", "MD5")),
)
UNKNOWN_PHONE = ("MD5",)
UNKNOWN_SERVER = ("MD5",)  # what rlm_digest of FreeRADIUS knows


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str] | None
    users: frozenset[str]
    offer: tuple[str, ...]


class Offers:
    """The offers of one configuration."""

    def __init__(self, algorithms: Sequence[str], rules: Iterable[DigestRule] = ()) -> None:
        self._default = tuple(algorithms)
        compiled = [
            _Rule(
                re.compile(rule.user_agent, re.IGNORECASE) if rule.user_agent else None,
                frozenset(user.lower() for user in rule.users),
                rule.offer,
            )
            for rule in rules
        ]
        # Who the person is weighs more than what is in the hand: a phone cannot talk its way round `users`.
        self._personal = tuple(rule for rule in compiled if rule.users)
        self._general = tuple(rule for rule in compiled if not rule.users)
        self._by_agent = lru_cache(maxsize=1024)(self._find_by_agent)

    @classmethod
    def of(cls, config: Config) -> Offers:
        """Those of a configuration; without rules of its own, what is known of phones in the field."""
        sip = config.sip
        default = sip.digest or UNKNOWN_PHONE
        if sip.digest_rule:
            return cls(default, sip.digest_rule)
        radius = config.radius
        capable = radius is None or radius.embedded or radius.verify == "edge"
        usable = sip.digest or (ALGORITHMS if capable else UNKNOWN_SERVER)
        known = []
        for rule in FIELD_RULES:
            offer = tuple(name for name in rule.offer if name in usable)
            if offer and (sip.digest or rule.offer[0] not in UNKNOWN_PHONE):
                known.append(DigestRule(user_agent=rule.user_agent, offer=offer))
        return cls(default, known)

    def to(self, agent: str, names: Iterable[str]) -> tuple[str, ...]:
        """What to offer a phone with this User-Agent; `names` is what is known of the person: login, addresses."""
        agent = agent[:MAX_AGENT_CHARS]
        if self._personal:
            wanted = _forms(names)
            for rule in self._personal:
                if rule.users & wanted and (rule.pattern is None or rule.pattern.search(agent)):
                    return rule.offer
        return self._by_agent(agent)

    def _find_by_agent(self, agent: str) -> tuple[str, ...]:
        for rule in self._general:
            if rule.pattern is None or rule.pattern.search(agent):
                return rule.offer
        return self._default


def _forms(names: Iterable[str]) -> set[str]:
    """Logins with and without their domain, lower case."""
    lower = [name.lower() for name in names if name]
    return {*lower, *(name.partition("@")[0] for name in lower)}
