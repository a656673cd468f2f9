"""The JSON API below /api/v1/: what the commands and scripts ask of a running edge.

Answers are objects; a failure is {"error": text}. Commands are POSTs with a JSON body: no HTML form can send one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from nomad.ports import AuditEntry, AuditQuery, CdrQuery, Console, Registration

MAX_PAGE = 10_000  # registrations or call records in one answer
DEFAULT_PAGE = 1000
WHO = "X-Nomad-User"  # as whom the client's user is logged in there
MAX_WHO_CHARS = 64
SURROGATES = re.compile("[\ud800-\udfff]")


def routes(console: Console) -> Iterable[web.RouteDef]:
    """Every route of the API."""
    api = _Api(console)
    return [
        web.get("/api/v1/status", api.status),
        web.get("/api/v1/registrations", api.registrations),
        web.get("/api/v1/calls", api.calls),
        web.get("/api/v1/bans", api.bans),
        web.get("/api/v1/cdrs", api.cdrs),
        web.get("/api/v1/locks", api.locks),
        web.get("/api/v1/audit", api.audit),
        web.get("/api/v1/audit/verify", api.verify_audit),
        web.post("/api/v1/hangup", api.hangup),
        web.post("/api/v1/kick", api.kick),
        web.post("/api/v1/lock", api.lock),
        web.post("/api/v1/unlock", api.unlock),
        web.post("/api/v1/unban", api.unban),
        web.post("/api/v1/reload", api.reload),
        web.post("/api/v1/drain", api.drain),
    ]


def answer(value: Any, code: int = 200) -> web.Response:
    """A value as a JSON response."""
    try:
        body = msgspec.json.encode(value)
    except UnicodeEncodeError:  # SIP text that is no UTF-8: show the bytes
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        body = SURROGATES.sub(lambda found: f"\\\\x{ord(found.group()) & 0xFF:02x}", text).encode()
    return web.Response(body=body, status=code, content_type="application/json")


def failure(code: int, text: str) -> web.Response:
    """An error as a JSON response."""
    return answer({"error": text}, code)


class _Api:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def status(self, request: web.Request) -> web.Response:
        status = msgspec.to_builtins(await self._console.status())
        status["radius"] = [{"server": server, "up": up} for server, up in status["radius"]]
        status["pbx"] = [{"name": name, "uri": uri} for name, uri in status["pbx"]]
        return answer(status)

    async def registrations(self, request: web.Request) -> web.Response:
        """A page by user; `after` is the last user of the page before."""
        user, after, limit = request.query.get("user"), request.query.get("after", ""), _limit(request)
        found = await self._console.registrations()
        page = [each for each in found if each.user > after and (user is None or each.user == user)]
        page.sort(key=lambda each: each.user)
        now = time.time()
        shown = [_registration(each, now) for each in page[:limit]]
        return answer({"total": len(found), "more": len(page) > limit, "registrations": shown})

    async def calls(self, request: web.Request) -> web.Response:
        return answer({"calls": await self._console.calls()})

    async def bans(self, request: web.Request) -> web.Response:
        return answer({"bans": await self._console.bans()})

    async def cdrs(self, request: web.Request) -> web.Response:
        """Newest first; calls that started from `since` up to before `until`, both in Unix seconds."""
        query = CdrQuery(
            user=request.query.get("user", ""),
            since=_time(request, "since"),
            until=_time(request, "until"),
            limit=_limit(request),
        )
        return answer({"cdrs": await self._console.cdrs(query)})

    async def hangup(self, request: web.Request) -> web.Response:
        call = await _parameter(request, "call")
        if not await self._console.hangup(call, by=who(request)):
            return failure(404, f"there is no call {call}; see: nomad calls")
        return answer({"call": call})

    async def kick(self, request: web.Request) -> web.Response:
        user = await _parameter(request, "user")
        gone = await self._console.kick(user, by=who(request))
        if not gone:
            return failure(404, f"{user} has no registration and no call; see: nomad registrations")
        return answer({"user": user, "removed": gone})

    async def lock(self, request: web.Request) -> web.Response:
        user, why = await _parameter(request, "user"), await _parameter(request, "why")
        gone = await self._console.lock(user, why=why, by=who(request))
        return answer({"user": user, "removed": gone})

    async def unlock(self, request: web.Request) -> web.Response:
        user = await _parameter(request, "user")
        if not await self._console.unlock(user, by=who(request)):
            return failure(404, f"{user} is not locked; see: nomad locks")
        return answer({"user": user})

    async def locks(self, request: web.Request) -> web.Response:
        return answer({"locks": await self._console.locks()})

    async def audit(self, request: web.Request) -> web.Response:
        """Newest first; `before` is the number of the last entry of the page before."""
        before = request.query.get("before", "")
        if before and not re.fullmatch("[0-9]{1,15}", before):
            raise web.HTTPBadRequest(text=f"before: '{before}' is no number of an entry")
        query = AuditQuery(since=_time(request, "since"), before=int(before) if before else None, limit=_limit(request))
        return answer({"entries": [_audit_entry(each) for each in await self._console.audit(query)]})

    async def verify_audit(self, request: web.Request) -> web.Response:
        return answer(await self._console.verify_audit())

    async def unban(self, request: web.Request) -> web.Response:
        address = await _parameter(request, "address")
        if not await self._console.unban(address, by=who(request)):
            return failure(404, f"{address} is not banned; see: nomad bans")
        return answer({"address": address})

    async def reload(self, request: web.Request) -> web.Response:
        await _body(request)
        done = await self._console.reload(by=who(request))
        if done.why:
            return failure(409, f"nothing changed: {done.why}")
        return answer({"reloaded": True, "restart": done.restart, "policy": done.policy})

    async def drain(self, request: web.Request) -> web.Response:
        await _body(request)
        await self._console.drain(by=who(request))
        return answer({"draining": True})


def who(request: web.Request) -> str:
    """Who commands, for the audit log: the name that the client gives for its user, and where it comes from."""
    name = request.headers.get(WHO, "")
    name = "".join(char for char in name[:MAX_WHO_CHARS] if char.isprintable()) or "somebody"
    return f"admin {name}@{request.remote or 'nowhere'}"


def _audit_entry(entry: AuditEntry) -> dict[str, Any]:
    """Flat, as scripts want it."""
    deed = entry.deed
    return {
        "number": entry.number,
        "at": entry.at,
        "by": deed.by,
        "action": deed.action,
        "what": deed.what,
        "why": deed.why,
        "more": dict(deed.more),
        "hash": entry.hash,
    }


def _registration(registration: Registration, now: float) -> dict[str, Any]:
    """A registration as people and scripts want it: flat, with remaining seconds."""
    grant = registration.grant
    return {
        "user": registration.user,
        "display_name": grant.display_name if grant else "",
        "extension": registration.extension,
        "addresses": registration.addresses,
        "groups": grant.groups if grant else (),
        "bindings": [
            {
                "address": binding.address,
                "contact": binding.contact,
                "transport": binding.flow.transport,
                "peer": _peer(binding.flow.remote),
                "registered_at": binding.registered_at,
                "expires_at": binding.expires_at,
                "expires_in_s": max(0, round(binding.expires_at - now)),
                "q": binding.q,
                "instance": binding.instance,
                "reg_id": binding.reg_id,
                "path": binding.path,
                "user_agent": binding.user_agent,
            }
            for binding in registration.bindings
        ],
    }


def _peer(remote: tuple[str, int]) -> str:
    host, port = remote
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(DEFAULT_PAGE))
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise web.HTTPBadRequest(text=f"limit: '{text}' is no number from 1 to {MAX_PAGE}")
    return min(int(text), MAX_PAGE)


def _time(request: web.Request, name: str) -> float | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        raise web.HTTPBadRequest(text=f"{name}: '{text}' is no time in Unix seconds")
    return float(text)


async def _parameter(request: web.Request, name: str) -> str:
    value = (await _body(request)).get(name)
    if not isinstance(value, str) or not value:
        raise web.HTTPBadRequest(text=f'send {{"{name}": "..."}}')
    return value


async def _body(request: web.Request) -> dict[str, Any]:
    """The JSON object of a command. Its media type is demanded: a page of another origin cannot send it unasked."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send Content-Type: application/json")
    try:
        value = msgspec.json.decode(await request.read())
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise web.HTTPBadRequest(text="send a JSON object")
    return value
