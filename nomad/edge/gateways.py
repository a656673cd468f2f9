"""Where a PBX takes requests: its targets one after another until one answers (RFC 3263 4.3), those that failed lately
last, and a TCP connection in place of UDP for what is too large (RFC 3261 18.1.1).

Phones are never looked for: what goes to them takes the flow that they registered by, whatever its size.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from nomad import log
from nomad.clock import Clock
from nomad.edge.proxy import PBX, Branch, Proxy, Retry
from nomad.edge.trunks import Trunk
from nomad.metrics import Metrics
from nomad.ports import Resolver, Signalling, Target, Unavailable
from nomad.sip.errors import SipError
from nomad.sip.events import Flow
from nomad.sip.grammar import parse_delta_seconds
from nomad.sip.message import Request, Response

logger = logging.getLogger(__name__)

PATIENCE_S = 4.0  # without any answer to an INVITE, when there is another target: a 100 comes at once (RFC 3261 17.2.1)
FAILED_S = 60.0  # so long a target that failed goes last
LARGE_BYTES = 1300  # RFC 3261 18.1.1; the path MTU is not known
ADDED_BYTES = 700  # what the edge adds to a request at most, roughly: Via, Record-Route, identity, credentials
TCP_S = 2.0
NO_TCP_S = 600.0  # so long a place that takes no TCP is not tried again
MAX_PLACES = 1000

Make = Callable[[Flow], tuple[Request, Retry | None]]


class Gateways:
    """What is known of the places of PBXs."""

    def __init__(
        self, signalling: Signalling, resolver: Resolver, *, proxy: Proxy, clock: Clock, metrics: Metrics
    ) -> None:
        self._signalling = signalling
        self._resolver = resolver
        self._proxy = proxy
        self._clock = clock
        self._metrics = metrics
        self._failed: dict[Target, float] = {}  # until when it goes last
        self._no_tcp: dict[tuple[str, int], float] = {}  # until when TCP is not tried

    async def targets(self, trunk: Trunk) -> list[Target]:
        """Where to try, in order. Raises `Unavailable`."""
        found: Sequence[Target] = await self._resolver.resolve(trunk.uri)
        if not self._failed or len(found) == 1:
            return list(found)
        now = self._clock.monotonic()
        return sorted(found, key=lambda target: self._failed.get(target, 0.0) > now)

    async def connect(self, target: Target) -> Flow:
        """A flow to a target. Raises `Unavailable`."""
        return await self._signalling.connect(target)

    def failed(self, trunk: Trunk, target: Target, *, reason: str, why: str, seconds: float = FAILED_S) -> None:
        """A target did not take a request; for so long others come first."""
        if len(self._failed) >= MAX_PLACES:
            self._failed.clear()
        if seconds:
            self._failed[target] = self._clock.monotonic() + seconds
        self._metrics.pbx_failed(trunk.name, reason)
        place = f"{target.transport}:{target.host} port {target.port}"
        log.event(logger, "pbx-failed", level=logging.WARNING, pbx=trunk.name, target=place, reason=reason, why=why)

    async def fit(self, branch: Branch) -> Branch:
        """The branch, by TCP when its request is too large for UDP and the PBX takes TCP connections.

        The dialog stays where it was: Record-Route and what is sent within it later do not change.
        """
        request = branch.request
        if not may_be_large(branch) or branch.carrier is not None:
            return branch
        place = branch.flow.remote
        now = self._clock.monotonic()
        if len(request.encode()) <= LARGE_BYTES or self._no_tcp.get(place, 0.0) > now:
            return branch
        try:
            async with asyncio.timeout(TCP_S):
                carrier = await self._signalling.connect(Target("tcp", *place))
        except (Unavailable, TimeoutError) as error:
            if len(self._no_tcp) >= MAX_PLACES:
                self._no_tcp.clear()
            self._no_tcp[place] = now + NO_TCP_S
            log.event(logger, "pbx-without-tcp", peer=place[0], port=place[1], why=str(error) or "no answer")
            return branch
        self._proxy.readdress(request, carrier)
        return replace(branch, carrier=carrier)


class Passage:
    """One request on its way to a PBX, until a target takes it."""

    def __init__(self, gateways: Gateways, trunk: Trunk, make: Make) -> None:
        """`make` gives the request as it goes by a flow, and what answers the PBX's challenge to it."""
        self._gateways = gateways
        self._trunk = trunk
        self._make = make
        self._left: deque[Target] = deque()
        self._target: Target | None = None
        self._login: Retry | None = None

    async def begin(self) -> Branch:
        """The first branch. Raises `Unavailable` when no target can be reached."""
        self._left.extend(await self._gateways.targets(self._trunk))
        return await self._next()

    async def retry(self, response: Response | None, branch: Branch) -> Branch | None:
        """A branch to the next target in the place of one that failed, or with the credentials that were missing."""
        if response is not None and response.status != 503:
            again = await self._login(response, branch) if self._login is not None else None
            return None if again is None else await self._gateways.fit(again)
        assert self._target is not None
        if response is None:
            self._gateways.failed(self._trunk, self._target, reason="silent", why="no answer, or the connection broke")
        else:
            # A 503 may be about this call only, unless it says how long (RFC 3261 21.5.4)
            pause = _retry_after(response)
            self._gateways.failed(self._trunk, self._target, reason="503", why=response.reason, seconds=pause)
        try:
            again = await self._next(body=branch.request.body)
        except Unavailable:
            return None
        return again

    async def _next(self, *, body: bytes | None = None) -> Branch:
        last = Unavailable(f"PBX {self._trunk.name}: no target")
        while self._left:
            target = self._target = self._left.popleft()
            try:
                flow = await self._gateways.connect(target)
            except Unavailable as error:
                self._gateways.failed(self._trunk, target, reason="unreachable", why=str(error))
                last = error
                continue
            request, self._login = self._make(flow)
            if body is not None:
                request.body = body  # as it was offered to the media relay
            return Branch(request, flow, PBX, patience_s=PATIENCE_S if self._left else None)
        raise last


def may_be_large(branch: Branch) -> bool:
    """Whether a request may be too large for the way that it takes; cheap, and on the safe side."""
    return branch.flow.transport == "udp" and branch.side == PBX and branch.request.size > LARGE_BYTES - ADDED_BYTES


def _retry_after(response: Response) -> float:
    value = (response.get("retry-after") or "").partition(";")[0].partition("(")[0].strip()
    try:
        return min(float(parse_delta_seconds(value)), FAILED_S) if value else 0.0
    except SipError:
        return 0.0
