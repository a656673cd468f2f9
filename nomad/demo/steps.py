"""The steps of the demo: what is done, what must be seen for it to count, and the words for what was seen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nomad.demo.agent import Address, Seen
from nomad.demo.pbx import ECHO, Pbx
from nomad.demo.pbx import TONE_HZ as PBX_TONE_HZ
from nomad.demo.records import Accounted, AdminApi, wait_accounting
from nomad.demo.rtp import Heard
from nomad.demo.site import DOMAIN
from nomad.demo.softphone import TONE_HZ, Account, PhoneCall, Softphone

PREMIUM = "0899123456"
# The phones know their passwords by themselves: a wrong one in the directory must be found out.
ALICE = ("alice", "alice-demo-2718", "3001")
BOB = ("bob", "bob-demo-3141", "3002")
CALL_S = 8.0
PACKETS = 40  # 0.8 s of audio
RECORDS_S = 6.0


class StepFailed(Exception):
    """What was seen is not what had to be; the text says both."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it went."""

    name: str
    ok: bool
    detail: str
    ms: float


@dataclass(slots=True)
class Stage:
    """What the steps play with."""

    edge: Address
    admin: AdminApi
    detail: Path  # accounting records of the RADIUS server
    pbx: Pbx | None  # None: somebody else's
    pbx_address: str
    cdrs: list[dict[str, Any]] = field(default_factory=list)
    accounting: Accounted = field(default_factory=lambda: Accounted(0, 0, (), frozenset()))


class Steps:
    """Plays the steps in order; each uses what the ones before left behind."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._alice = self._phone(ALICE)
        self._bob = self._phone(BOB)
        self._phones = [self._alice, self._bob]
        self._call: PhoneCall | None = None
        self._answered = 0  # calls that must be accounted
        self._expected: list[tuple[str, str, str]] = []  # direction, called number ("" for any), result

    def all(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        """Names and steps."""
        own = self._stage.pbx is not None
        return [
            ("health", self.health),
            ("wrong password", self.wrong_password),
            ("register", self.register),
            ("call echo", self.call_echo),
            ("hang up", self.hang_up),
            ("refused premium", self.refused_premium),
            *([("incoming call", self.incoming_call)] if own else []),
            ("call a colleague", self.call_a_colleague),
            ("unregister", self.unregister),
            ("call records", self.call_records),
            ("accounting", self.accounting),
        ]

    async def start(self) -> None:
        """Start the phones."""
        for phone in self._phones:
            await phone.start()

    async def stop(self) -> None:
        """Stop the phones."""
        for phone in self._phones:
            await phone.stop()

    async def health(self) -> str:
        """The edge serves, RADIUS answers."""
        if not await self._stage.admin.healthy():
            raise StepFailed("/healthz is not 200")
        servers = (await self._stage.admin.status()).get("radius", [])
        down = [server["server"] for server in servers if not server["up"]]
        if down or not servers:
            raise StepFailed(f"RADIUS down: {', '.join(down) or 'no server'}")
        return f"edge {_shown(self._stage.edge)}, RADIUS up ({', '.join(server['server'] for server in servers)})"

    async def wrong_password(self) -> str:
        """A REGISTER with a wrong password is refused."""
        thief = Softphone(replace(self._alice.account, password="not-" + ALICE[1]))
        await thief.start()
        try:
            result = await thief.register()
        finally:
            await thief.stop()
        if result.last.status not in (401, 403) or len(result.seen) < 2:
            raise StepFailed(f"expected a challenge and a refusal, saw {_path(result.seen)}")
        return f"{_path(result.seen)}: not let in"

    async def register(self) -> str:
        """A REGISTER is challenged and then accepted."""
        result = await self._alice.register()
        if not result.ok or result.seen[0].status != 401 or not result.expires_s:
            raise StepFailed(f"expected 401 then 200 for {ALICE[0]}, saw {_path(result.seen)}")
        return f"{ALICE[0]}: {_path(result.seen)}, for {result.expires_s} s"

    async def call_echo(self) -> str:
        """A call to the echo is answered and the tone comes back."""
        call = self._call = await self._alice.call(ECHO, timeout_s=CALL_S)
        self._must_be_up(call, ECHO)
        heard = _must_hear(await call.hear(PACKETS), PACKETS, "back from the echo")
        who = self._asserted(ECHO)
        self._answered += 1
        self._expected.append(("out", ECHO, "answered"))
        return f"{ECHO}: {_path(call.seen)}, {_audio(heard)} back{who}"

    async def hang_up(self) -> str:
        """A BYE ends the call on both sides."""
        if self._call is None or not self._call.answered:
            raise StepFailed("there is no call")
        seen = await self._call.hangup()
        if seen is None or seen.status != 200:
            raise StepFailed(f"BYE: expected 200, saw {seen or 'no response'}")
        if self._stage.pbx is not None and not self._stage.pbx.calls[-1].ended:
            raise StepFailed("BYE was answered, but the PBX never saw it")
        return f"BYE: {seen}"

    async def refused_premium(self) -> str:
        """A premium number is refused with the policy's reason and never gets to the PBX."""
        call = await self._alice.call(PREMIUM, timeout_s=CALL_S)
        if call.answered:
            await call.hangup()
        if call.last.status != 403 or "premium" not in call.last.reason.lower():
            raise StepFailed(f"{PREMIUM}: expected 403 with the policy's reason, saw {_path(call.seen)}")
        if self._stage.pbx is not None and any(PREMIUM in seen.callee for seen in self._stage.pbx.calls):
            raise StepFailed(f"{PREMIUM} was refused, but the PBX saw the call")
        self._expected.append(("out", PREMIUM, "refused"))
        return f"{PREMIUM}: {call.last}"

    async def incoming_call(self) -> str:
        """The PBX calls a person's extension: the phone rings, is answered, and both hear each other."""
        assert self._stage.pbx is not None
        dialling = asyncio.create_task(self._stage.pbx.call(ALICE[2], timeout_s=CALL_S))
        try:
            ringing = await self._alice.wait_ringing(CALL_S)
            if ringing is None:
                desk = await dialling
                raise StepFailed(f"the phone did not ring; the PBX saw {_path(desk.leg.seen)}")
            await ringing.answer()
            desk = await dialling
            if not desk.leg.answered:
                raise StepFailed(f"the phone answered, but the PBX saw {_path(desk.leg.seen)}")
            heard = _must_hear(await ringing.hear(PACKETS, hz=PBX_TONE_HZ), PACKETS, "from the PBX")
            _must_hear(await desk.hear(PACKETS, hz=TONE_HZ), PACKETS, "at the PBX")
            seen = await ringing.hangup()
            if seen is None or seen.status != 200:
                raise StepFailed(f"BYE: expected 200, saw {seen or 'no response'}")
        finally:
            dialling.cancel()
        self._answered += 1
        self._expected.append(("in", "", "answered"))
        audio = f"{_audio(heard)}, {TONE_HZ} Hz the other way"
        return f"PBX to {ALICE[2]}: {_path(desk.leg.seen)}, {audio}, BYE: {seen}"

    async def call_a_colleague(self) -> str:
        """Two roaming people talk through the PBX; the called one hangs up."""
        registered = await self._bob.register()
        if not registered.ok:
            raise StepFailed(f"{BOB[0]} cannot register: {_path(registered.seen)}")
        call, answering = await self._alice.start_call(BOB[2], timeout_s=CALL_S)
        ringing = await self._bob.wait_ringing(CALL_S)
        if ringing is None:
            call.cancel()
            await answering
            raise StepFailed(f"{BOB[0]}'s phone did not ring; {ALICE[0]} saw {_path(call.seen)}")
        await ringing.answer()
        await answering
        self._must_be_up(call, BOB[2])
        heard = _must_hear(await call.hear(PACKETS), PACKETS, f"from {BOB[0]}")
        _must_hear(await ringing.hear(PACKETS), PACKETS, f"from {ALICE[0]}")
        seen = await ringing.hangup()
        if seen is None or seen.status != 200 or await call.wait_ended() != "peer":
            raise StepFailed(
                f"BYE: {seen or 'no response'}, and {ALICE[0]}'s call is {call.leg.ended_by or 'still up'}"
            )
        self._answered += 2
        self._expected += [("out", BOB[2], "answered"), ("in", "", "answered")]
        return f"{ALICE[0]} to {BOB[2]}: {_path(call.seen)}, {_audio(heard)} both ways, {BOB[0]}'s BYE: {seen}"

    async def unregister(self) -> str:
        """Both phones take their registrations back."""
        for phone in self._phones:
            result = await phone.unregister()
            if not result.ok:
                raise StepFailed(f"{phone.account.user}: expected 200, saw {_path(result.seen)}")
        left = (await self._stage.admin.status()).get("registrations")
        if left:
            raise StepFailed(f"{left} registrations are left")
        return f"{len(self._phones)} phones: {result.last}"

    async def call_records(self) -> str:
        """Every call and the refusal are in the edge's store."""
        rows = self._stage.cdrs = await self._stage.admin.wait_cdrs(len(self._expected), timeout_s=RECORDS_S)
        missing = list(rows)
        for direction, number, result in self._expected:
            for row in missing:
                called = str(row["callee"]).partition("@")[0].removeprefix("sip:")
                if row["direction"] == direction and row["result"] == result and number in ("", called):
                    missing.remove(row)
                    break
            else:
                raise StepFailed(f"no record of direction {direction}, number {number or 'any'}, result {result}")
        if missing:
            raise StepFailed(f"{len(missing)} records of calls that were not made")
        longest = max(float(row["duration_s"]) for row in rows)
        if longest <= 0:
            raise StepFailed("no record has a duration")
        return f"{len(rows)} records, {self._answered} answered, longest {longest:.1f} s"

    async def accounting(self) -> str:
        """RADIUS acknowledged a Start and a Stop of every answered call."""
        found = self._stage.accounting = await wait_accounting(self._stage.detail, self._answered, timeout_s=RECORDS_S)
        if (found.start, found.stop) != (self._answered, self._answered):
            raise StepFailed(f"expected {self._answered} Start and Stop, found {found.start} and {found.stop}")
        if min(found.seconds) < 0 or not {ALICE[0], BOB[0]} <= found.users:
            raise StepFailed(f"records without Acct-Session-Time or of the wrong users: {sorted(found.users)}")
        return f"{found.start} Start, {found.stop} Stop, users {', '.join(sorted(found.users))}"

    def _phone(self, person: tuple[str, str, str]) -> Softphone:
        return Softphone(Account(person[0], person[1], DOMAIN, self._stage.edge))

    def _must_be_up(self, call: PhoneCall, number: str) -> None:
        if not call.answered:
            silent = call.last.status < 200
            why = f", then nothing for {CALL_S:g} s; is the PBX at {self._stage.pbx_address} up?" if silent else ""
            raise StepFailed(f"{number} was not answered: {_path(call.seen)}{why}")

    def _asserted(self, callee: str) -> str:
        """What the PBX was told about the caller (RFC 3325)."""
        if self._stage.pbx is None:
            return ""
        seen = next((call for call in reversed(self._stage.pbx.calls) if call.callee == callee), None)
        if seen is None:
            raise StepFailed("the call was answered, but not by the PBX")
        if not seen.asserted.startswith(f"sip:{ALICE[2]}@"):
            raise StepFailed(f"the PBX saw P-Asserted-Identity '{seen.asserted}', expected sip:{ALICE[2]}@...")
        return f"; the PBX saw {seen.asserted}"


def _must_hear(heard: Heard, packets: int, where: str) -> Heard:
    if heard.packets < packets or not heard.tone:
        raise StepFailed(f"audio {where}: {_audio(heard)}; expected {packets} packets with the tone")
    return heard


def _audio(heard: Heard) -> str:
    tone = f"{heard.hz} Hz tone" if heard.tone else f"no {heard.hz} Hz tone"
    return f"{heard.packets} packets, {heard.lost} lost, {tone}"


def _path(seen: tuple[Seen, ...] | list[Seen]) -> str:
    """Responses in order, without 100."""
    return ", ".join(str(each) for each in seen if each.status != 100) or "no response"


def _shown(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
