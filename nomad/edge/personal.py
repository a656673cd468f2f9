"""What the AAA server grants one person, on its own and after a change (RFC 5176).

How a person's limits and those of the policy group go together is decided in `policy`: the smaller one counts.
"""

from __future__ import annotations

from dataclasses import fields, replace

from nomad.ports import Change, Grant, Limits


def longest_call(policy_s: float | None, grant: Grant) -> float | None:
    """How long a call may last: the least of what the policy, Session-Timeout and the person's own limit say."""
    given = [limit for limit in (policy_s, grant.session_timeout_s, grant.limits.call_s) if limit is not None]
    return min(given) if given else None


def amended(grant: Grant, change: Change) -> Grant:
    """A grant after a CoA-Request: what it names is replaced, the rest stays (RFC 5176 2.2)."""

    def newer(name: str) -> object:
        given = getattr(change, name)
        return getattr(grant, name) if given is None else given

    names = ("groups", "allowed_classes", "session_timeout_s", "interim_interval_s")
    return replace(grant, **{name: newer(name) for name in names}, limits=_newer(grant.limits, change.limits))  # type: ignore[arg-type]  # the fields have the same types


def _newer(before: Limits, given: Limits) -> Limits:
    values = {field.name: getattr(given, field.name) for field in fields(Limits)}
    return replace(before, **{name: value for name, value in values.items() if value is not None})
