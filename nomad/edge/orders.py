"""What the AAA server orders about sessions that it let in: end them, or change their limits (RFC 5176).

An order is about every session that fits all of its attributes. One about a person, and not about one call of the
person, takes the registrations too. Implements `ports.OrderTaker`; the packets are `radius.disconnect`'s part.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from nomad import log
from nomad.edge.accounting import Accountant
from nomad.edge.calls import Call, CallState, CallTable
from nomad.edge.personal import amended, longest_call
from nomad.edge.switchboard import Switchboard
from nomad.ports import Change, Conflict, Deed, Grant, LocationStore, Recorder, Registration, Unavailable, Whom

logger = logging.getLogger(__name__)

SAVE_ATTEMPTS = 5
CAUSE = "Admin-Reset"  # Acct-Terminate-Cause of what an order ends (RFC 2866 5.10)


class Orders:
    """Ends and changes calls, and removes registrations."""

    def __init__(
        self,
        *,
        calls: CallTable,
        switchboard: Switchboard,
        accountant: Accountant,
        locations: LocationStore,
        domains: Sequence[str],
        recorder: Recorder,
        forget: Callable[[Sequence[str]], object] = len,
        amend: Callable[[Sequence[str], Callable[[Grant], Grant]], int] = lambda names, change: 0,
        drop: Callable[[str], object] = len,
    ) -> None:
        """What is remembered of people by name: `forget` empties it, so that their next login is judged anew; `amend`
        changes the grants in it, and says how many there were. `drop` ends the subscriptions of a person.
        """
        self._calls = calls
        self._switchboard = switchboard
        self._accountant = accountant
        self._locations = locations
        self._domains = tuple(domains)
        self._recorder = recorder
        self._forget_verdicts = forget
        self._drop = drop
        self._amend_verdicts = amend

    async def disconnect(self, whom: Whom) -> int:
        """End the sessions that fit; how many calls and bindings went. Raises `Unavailable`."""
        calls = self._fitting(whom)
        self._judge_anew(whom, calls)
        # The registration goes first, so that no new call reaches the person while the old ones end.
        bindings = await self._unregister(whom) if is_about_person(whom) else 0
        await asyncio.gather(*(self._switchboard.hang_up(call, cause=CAUSE) for call in calls))
        log.event(logger, "disconnect", user=whom.user, session=whom.session, calls=len(calls), bindings=bindings)
        self._record("disconnect", whom, calls=len(calls), bindings=bindings)
        return len(calls) + bindings

    async def login_of(self, name: str) -> str:
        """The login of the person whom a login, an address or an extension means; of who is away, what is before our
        domain. Raises `Unavailable`.
        """
        for user in await self._names(name):
            if (await self._locations.get(user)).bindings:
                return user
        callers = (call.user for call in self._calls if is_user(name, call.grant, self._domains))
        return next(callers, _local_part(name, self._domains))

    async def unregister(self, user: str) -> int:
        """Remove the registrations of a person, calls go on; how many bindings there were. Raises `Unavailable`."""
        self._forget_verdicts([user])
        return await self._unregister(Whom(user=user))

    async def change(self, whom: Whom, change: Change) -> int:
        """Give the calls that fit, and the person who is named, other limits; how many sessions there were."""
        calls = self._fitting(whom)
        for call in calls:
            self._change(call, change)
        if is_about_person(whom):
            # A registration and a remembered login are sessions too: what is begun from them is begun as changed.
            found = len(calls) + await self._change_registration(whom, change) + self._change_verdicts(whom, change)
        else:
            self._judge_anew(whom, calls)
            found = len(calls)
        shown = _shown(change)
        log.event(logger, "change", user=whom.user, session=whom.session, sessions=found, calls=len(calls), **shown)
        self._record("change", whom, calls=len(calls), **shown)
        return found

    def _record(self, action: str, whom: Whom, **counts: object) -> None:
        """Orders of the AAA server go on record; what the edge does to itself is recorded by who has it done."""
        if not whom.by:
            return
        parts = (whom.user, whom.session, whom.calling, whom.called, *(value.hex() for value in whom.classes))
        more = tuple((name, str(count)) for name, count in counts.items())
        self._recorder.record(Deed(whom.by, action, " ".join(part for part in parts if part), more=more))

    def _fitting(self, whom: Whom) -> list[Call]:
        return [call for call in self._calls if fits(call, whom, self._domains)]

    def _judge_anew(self, whom: Whom, calls: Sequence[Call]) -> None:
        """Nobody whose session was ended or changed calls again on the strength of what was said before."""
        named = [whom.user, _local_part(whom.user, self._domains)] if whom.user else []
        self._forget_verdicts([*named, *(call.user for call in calls)])

    def _change(self, call: Call, change: Change) -> None:
        call.grant = amended(call.grant, change)
        if change.session_timeout_s is not None or change.limits.call_s is not None:
            limit_s = longest_call(call.policy_limit_s, call.grant)
            if limit_s is not None:
                self._calls.limit(call, limit_s)
        if call.state is CallState.ANSWERED:
            self._accountant.changed(call)

    def _change_verdicts(self, whom: Whom, change: Change) -> int:
        def changed(grant: Grant) -> Grant:
            return amended(grant, change) if set(whom.classes) <= set(grant.classes) else grant

        return self._amend_verdicts([whom.user, _local_part(whom.user, self._domains)], changed)

    async def _change_registration(self, whom: Whom, change: Change) -> int:
        """Give a registered person's grant the change; how many bindings that is about."""
        return sum(
            [await self._replace(user, whom, lambda old: _amend(old, change)) for user in await self._names(whom.user)]
        )

    async def _unregister(self, whom: Whom) -> int:
        """Remove the bindings of a person, under whichever name the person is known; how many there were."""
        count = 0
        for user in await self._names(whom.user):
            bindings = await self._replace(user, whom, _without_bindings)
            if bindings or not whom.classes:  # who subscribes need not be registered
                self._drop(user)
            count += bindings
        return count

    async def _names(self, given: str) -> list[str]:
        """Whose registration a name may mean."""
        name = given.lower()
        users = [given, _local_part(given, self._domains), await self._locations.find(name)]
        users += [await self._locations.find(f"{name}@{domain}") for domain in self._domains]
        return [user for user in dict.fromkeys(users) if user]

    async def _replace(self, user: str, whom: Whom, change: Callable[[Registration], Registration]) -> int:
        for _ in range(SAVE_ATTEMPTS):
            registration = await self._locations.get(user)
            if not registration.bindings or not _is_registration_of(registration, whom, self._domains):
                return 0
            try:
                await self._locations.save(change(registration))
            except Conflict:
                continue
            return len(registration.bindings)
        raise Unavailable(f"registration of {user}: too many writers")


def _shown(change: Change) -> dict[str, Any]:
    """What a change gives, for the log and the record."""
    values = {
        "seconds": change.session_timeout_s,
        "interim": change.interim_interval_s,
        "groups": None if change.groups is None else ", ".join(change.groups),
        "classes": None if change.allowed_classes is None else ", ".join(change.allowed_classes),
        **{field.name: getattr(change.limits, field.name) for field in fields(change.limits)},
    }
    return {name: value for name, value in values.items() if value is not None}


def _without_bindings(registration: Registration) -> Registration:
    return replace(registration, bindings=())


def _amend(registration: Registration, change: Change) -> Registration:
    grant = registration.grant
    return registration if grant is None else replace(registration, grant=amended(grant, change))


def is_about_person(whom: Whom) -> bool:
    """Whether an order is about a person as a whole, and not about single calls of the person."""
    return bool(whom.user) and not (whom.session or whom.calling or whom.called)


def fits(call: Call, whom: Whom, domains: Sequence[str]) -> bool:
    """Whether a call fits every attribute of an order; an order without any is about nothing."""
    if whom == Whom():
        return False
    return (
        (not whom.user or is_user(whom.user, call.grant, domains))
        and (not whom.session or whom.session == call.id)
        and (not whom.calling or _is_station(whom.calling, call.caller_address))
        and (not whom.called or _is_station(whom.called, call.callee_address))
        and set(whom.classes) <= set(call.grant.classes)
    )


def is_user(name: str, grant: Grant, domains: Sequence[str]) -> bool:
    """Whether a User-Name means this person: the canonical login, that in one of our domains, or an own address."""
    name = name.lower()
    return _local_part(name, domains) == grant.user.lower() or name in (grant.user.lower(), *grant.addresses)


def _is_registration_of(registration: Registration, whom: Whom, domains: Sequence[str]) -> bool:
    grant = registration.grant or Grant(registration.user)
    return is_user(whom.user, grant, domains) and set(whom.classes) <= set(grant.classes)


def _is_station(station: str, address: str) -> bool:
    """Whether a Calling- or Called-Station-Id means an address: as accounted (`sip:user@host`), or its user alone."""
    station = station.lower().removeprefix("sips:").removeprefix("sip:")
    address = address.lower()
    return station == (address if "@" in station else address.partition("@")[0])


def _local_part(name: str, domains: Sequence[str]) -> str:
    user, at, domain = name.rpartition("@")
    return user if at and domain.lower() in domains else name
