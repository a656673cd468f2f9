"""Alarms by HTTP: a POST with a JSON object, signed when there is a key."""

from __future__ import annotations

import hashlib
import hmac

import aiohttp
import msgspec

from nomad import __version__
from nomad.ports import Alarm, Unavailable

SIGNATURE = "X-Nomad-Signature"
MAX_REASON_CHARS = 100


class Webhook:
    """One address. A new connection for each alarm: there are few, and hours between them."""

    def __init__(self, url: str, *, key: bytes, timeout_s: float, node: str) -> None:
        """`node` says whose alarm it is."""
        self._url = url
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._node = node

    async def send(self, alarm: Alarm) -> None:
        """Return when the other side said 2xx. Raises `Unavailable`."""
        body = msgspec.json.encode({"node": self._node, "alarm": alarm})
        headers = {"Content-Type": "application/json", "User-Agent": f"nomad/{__version__}"}
        if self._key:
            headers[SIGNATURE] = hmac.new(self._key, body, hashlib.sha256).hexdigest()
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                if not 200 <= answer.status < 300:
                    raise Unavailable(f"webhook: HTTP {answer.status} {(answer.reason or '')[:MAX_REASON_CHARS]}")
        except TimeoutError:
            raise Unavailable(f"webhook: no answer within {self._timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"webhook: {error}") from None
