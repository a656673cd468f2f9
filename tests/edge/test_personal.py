"""nomad.edge.personal: what RADIUS grants one person, and what a change of it does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nomad.edge.personal import amended, longest_call
from nomad.ports import Change, Grant, Limits


@pytest.mark.parametrize(
    ("policy_s", "session_s", "own_s", "longest"),
    [
        (None, None, None, None),
        (100.0, 60, None, 60),
        (100.0, None, 30.0, 30.0),
        (None, 60, 90.0, 60),
        (20.0, 60, 90.0, 20.0),
        (None, None, 0.0, 0.0),
    ],
)
def test_the_longest_call(
    policy_s: float | None, session_s: int | None, own_s: float | None, longest: float | None
) -> None:
    grant = Grant("alice", session_timeout_s=session_s, limits=Limits(call_s=own_s))
    assert longest_call(policy_s, grant) == longest


def test_a_change_replaces_what_it_names() -> None:
    grant = Grant("alice", groups=("staff",), session_timeout_s=60, limits=Limits(2), allowed_classes=("internal",))
    assert amended(grant, Change()) == grant
    assert amended(grant, Change(groups=("guests",))) == replace(grant, groups=("guests",))
    assert amended(grant, Change(groups=())) == replace(grant, groups=())
    changed = amended(grant, Change(session_timeout_s=90, interim_interval_s=30, limits=Limits(call_s=9.0)))
    assert changed == replace(grant, session_timeout_s=90, interim_interval_s=30, limits=Limits(2, call_s=9.0))
    assert amended(grant, Change(allowed_classes=("national",), limits=Limits(0))) == replace(
        grant, allowed_classes=("national",), limits=Limits(0)
    )
