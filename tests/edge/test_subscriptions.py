"""The table of subscriptions; whole ones are in scenarios/test_edge_notices.py."""

from __future__ import annotations

import pytest

from nomad.edge.calls import CSEQ_LEAP, Leg
from nomad.edge.subscriptions import (
    GRACE_S,
    LONGEST_S,
    MAX_NOTIFIERS,
    Subscription,
    Subscriptions,
    freeze,
    learn,
    seconds_left,
    thaw,
)
from nomad.ports import LiveCall
from nomad.sip.errors import Reject
from nomad.sip.events import Flow
from nomad.sip.message import Request
from nomad.sip.uri import Uri

PHONE = Flow("udp", ("192.0.2.1", 5060), ("198.51.100.7", 5061))
PBX = Flow("tcp", ("192.0.2.1", 40000), ("10.0.0.5", 5060), 7)
SIDE = Flow("tcp", ("192.0.2.1", 40000), ("10.0.0.6", 5060), 8)
NOW = 1000.0


def table(limit: int = 10, per_person: int = 5) -> Subscriptions:
    return Subscriptions(limit=limit, per_person=per_person)


def subscription(id: str = "sub-1", user: str = "alice", party: str = "<sip:alice@x>;tag=from") -> Subscription:
    leg = Leg("phone", PHONE, "from", party, "sip:alice@198.51.100.7", (), 5)
    made = Subscription(id, "id@phone", user, "dialog", leg, "pbx", (PBX, SIDE))
    made.notifiers["to"] = Leg("pbx", PBX, "to")
    return made


def request(from_tag: str, to_tag: str, method: str = "NOTIFY", state: str = "") -> Request:
    made = Request(method, "sip:x")
    made.add("from", f"<sip:a@x>;tag={from_tag}")
    made.add("to", f"<sip:b@x>;tag={to_tag}")
    made.add("call-id", "id@phone")
    if state:
        made.add("subscription-state", state)
    return made


def test_sides_are_found_by_both_tags() -> None:
    subscriptions, made = table(), subscription()
    assert subscriptions.find(request("to", "from"), PBX, None) is None
    subscriptions.open(made, NOW, by_person=True)
    news = subscriptions.find(request("to", "from"), PBX, None)
    assert news is not None
    assert (news.sender, news.receiver) == (made.notifiers["to"], made.subscriber)
    refresh = subscriptions.find(request("from", "to", "SUBSCRIBE"), PHONE, None)
    assert refresh is not None
    assert (refresh.sender, refresh.receiver) == (made.subscriber, made.notifiers["to"])
    for wrong in (("from", "other", "SUBSCRIBE"), ("other", "other", "NOTIFY"), ("other", "from", "SUBSCRIBE")):
        assert subscriptions.find(request(*wrong), PBX, None) is None


def test_token_must_name_it() -> None:
    subscriptions = table()
    subscriptions.open(subscription("sub-1"), NOW, by_person=True)
    subscriptions.open(subscription("sub-2"), NOW, by_person=True)
    way = subscriptions.find(request("to", "from"), PBX, Uri.parse("sip:edge;lr;c=sub-2"))
    assert way is not None
    assert way.subscription.id == "sub-2"
    assert subscriptions.find(request("to", "from"), PBX, Uri.parse("sip:edge;lr;c=sub-3")) is None


def test_new_notifier_is_a_side_only_when_it_is_learned() -> None:
    subscriptions, made = table(), subscription()
    subscriptions.open(made, NOW, by_person=True)
    for flow, path in ((SIDE, SIDE), (PHONE, PBX)):
        way = subscriptions.find(request("new", "from"), flow, None)
        assert way is not None
        assert (way.sender.side, way.sender.flow, way.sender.tag) == ("pbx", path, "new")
    assert list(made.notifiers) == ["to"]
    for number in range(20):
        learn(made, Leg("pbx", PBX, f"t{number}"))
    assert len(made.notifiers) == MAX_NOTIFIERS
    assert subscriptions.find(request("late", "from"), PBX, None) is None


def test_bounds_of_a_person_and_of_the_edge() -> None:
    subscriptions = table(limit=3, per_person=2)
    for number in range(2):
        subscriptions.open(subscription(f"sub-{number}"), NOW, by_person=True)
    with pytest.raises(Reject) as refused:
        subscriptions.open(subscription("sub-9"), NOW, by_person=True)
    assert refused.value.status == 403
    subscriptions.open(subscription("sub-2"), NOW, by_person=False)  # the PBX asks as often as it likes
    with pytest.raises(Reject) as refused:
        subscriptions.open(subscription("sub-3", "bob"), NOW, by_person=True)
    assert refused.value.status == 503
    (first, *_) = subscriptions
    assert subscriptions.remove(first)
    assert not subscriptions.remove(first)
    subscriptions.open(subscription("sub-3", "bob"), NOW, by_person=True)


@pytest.mark.parametrize("step", [86_400.0, -86_400.0])
def test_a_clock_that_was_set_ends_none_earlier_or_later(step: float) -> None:
    subscriptions, made = table(), subscription()
    subscriptions.open(made, NOW, by_person=True)
    subscriptions.last(made, 600, NOW)
    subscriptions.last(made, 60, NOW)
    subscriptions.move(step)
    assert subscriptions.expire(NOW + step + 60 + GRACE_S - 1) == []
    assert subscriptions.expire(NOW + step + 60 + GRACE_S) == [made]


def test_time_that_moves_both_ways() -> None:
    subscriptions, made = table(), subscription()
    subscriptions.open(made, NOW, by_person=True)
    subscriptions.last(made, 600, NOW)
    assert subscriptions.expire(NOW + GRACE_S) == []
    subscriptions.last(made, 60, NOW)
    assert subscriptions.expire(NOW + 60 + GRACE_S - 1) == []
    assert subscriptions.expire(NOW + 60 + GRACE_S) == [made]
    assert subscriptions.expire(NOW + 10_000) == []
    assert len(subscriptions) == 0
    subscriptions.last(made, 600, NOW)  # an answer that came too late
    assert len(subscriptions) == 0


def test_no_notifier_grants_more_than_a_day() -> None:
    subscriptions, made = table(), subscription()
    subscriptions.open(made, NOW, by_person=True)
    subscriptions.last(made, 1e9, NOW)
    assert made.ends_at == NOW + LONGEST_S + GRACE_S


def test_those_who_come_and_go_leave_nothing_behind() -> None:
    subscriptions = table()
    for number in range(100):
        made = subscription(f"sub-{number}")
        subscriptions.open(made, NOW, by_person=True)
        subscriptions.remove(made)
    assert len(subscriptions._ends) == 0
    assert subscriptions._of_user == {}
    assert subscriptions._by_call_id == {}


@pytest.mark.parametrize(
    ("state", "left"),
    [
        ("terminated", 0.0),
        ("Terminated;reason=noresource", 0.0),
        ("active;expires=60", 60.0),
        ("pending ; Expires = 7", 7.0),
        ("active", None),
        ("active;expires=soon", None),
        ("", None),
    ],
)
def test_what_a_notify_says_of_the_time_left(state: str, left: float | None) -> None:
    assert seconds_left(request("to", "from", state=state)) == left


@pytest.mark.parametrize("name", ["plain", "Ren\udce9"])
def test_frozen_subscription_thaws_with_every_field(name: str) -> None:
    made = subscription(party=f'"{name}" <sip:alice@x>;tag=from')
    made.ends_at = 2000.0
    stored = freeze(made, NOW)
    assert (stored.id, stored.updated_at) == ("sub-1", NOW)
    back = thaw(stored)
    assert back == made
    subscriptions = table()
    subscriptions.restore(back)
    assert back.subscriber.cseq == made.subscriber.cseq + CSEQ_LEAP
    assert subscriptions.expire(1999.0) == []
    assert subscriptions.expire(2000.0) == [back]


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"\x80", b"[1]"])
def test_data_of_another_version_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        thaw(LiveCall("sub-1", data, 0.0))


def test_each_side_has_its_person() -> None:
    subscriptions, made = table(), subscription()
    made.far_side, made.far_user, made.notifiers = "phone", "bob", {}
    subscriptions.open(made, NOW, by_person=True)
    news = subscriptions.find(request("new", "from"), SIDE, None)
    assert news is not None
    assert (news.user_of(news.sender), news.user_of(news.receiver)) == ("bob", "alice")
    assert thaw(freeze(made, NOW)).far_user == "bob"
