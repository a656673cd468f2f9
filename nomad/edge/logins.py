"""Our logins at PBXs that challenge us: on every request to them, within and outside of dialogs (RFC 3261 22.2, 22.3).

What a PBX asked for once is answered ahead of its next challenge. A request that is challenged all the same goes out
again with its CSeq as it was: a proxy may not change it (RFC 3261 16.6), and the dialog is its ends'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nomad.edge.proxy import Branch, Retry
from nomad.edge.trunks import Trunk
from nomad.sip.digest import answer, choose
from nomad.sip.errors import SipError
from nomad.sip.events import Flow
from nomad.sip.headers import Challenge
from nomad.sip.message import Request, Response

CHALLENGE_HEADERS = {
    401: ("www-authenticate", "authorization"),
    407: ("proxy-authenticate", "proxy-authorization"),
}


@dataclass(slots=True)
class _Known:
    """What a PBX asked for last."""

    trunk: Trunk
    challenge: Challenge
    header: str
    count: int = 0  # how often its nonce was used


class Logins:
    """Signs requests to PBXs."""

    def __init__(
        self,
        *,
        trunk_of: Callable[[Flow], Trunk | None],
        via: Callable[[Flow], str],
        new_cnonce: Callable[[], str],
    ) -> None:
        self._trunk_of = trunk_of
        self._via = via
        self._new_cnonce = new_cnonce
        self._known: dict[str, _Known] = {}

    def sign(self, request: Request, flow: Flow, trunk: Trunk | None = None) -> Retry | None:
        """Add credentials when the PBX on this flow is known to want them; what answers its challenge, once.

        None when we have no login there: its challenge is the phone's to answer.
        """
        trunk = trunk or self._trunk_of(flow)
        if trunk is None or not trunk.username:
            return None
        known = self._known.get(trunk.name)
        if known is not None and known.trunk == trunk:
            self._add(request, known)
        asked = False

        async def retry(response: Response | None, branch: Branch) -> Branch | None:
            nonlocal asked
            if asked or response is None or response.status not in CHALLENGE_HEADERS:
                return None
            source, header = CHALLENGE_HEADERS[response.status]
            try:
                challenge = choose(Challenge.parse(value) for value in response.get_all(source))
            except SipError:
                return None
            if challenge is None:
                return None
            asked = True
            known = self._known[trunk.name] = _Known(trunk, challenge, header)
            again = branch.request.copy()
            again.replace_first("via", self._via(branch.carrier or branch.flow))
            for name in {pair[1] for pair in CHALLENGE_HEADERS.values()}:
                _remove(again, name, trunk.username)
            self._add(again, known)
            return replace(branch, request=again)

        return retry

    def _add(self, request: Request, known: _Known) -> None:
        known.count += 1
        credentials = answer(
            known.challenge,
            method=request.method,
            uri=request.uri_text,
            username=known.trunk.username,
            password=known.trunk.password,
            cnonce=self._new_cnonce(),
            count=known.count,
        )
        request.add(known.header, str(credentials))


def _remove(request: Request, name: str, username: str) -> None:
    """Take out our own credentials, which did not serve; those of the phone for other realms stay."""
    values = request.get_all(name)
    if values:
        request.remove(name)
        for value in values:
            if f'username="{username}"' not in value:
                request.add(name, value)
