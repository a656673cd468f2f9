import pytest

from nomad.edge.sessions import agree, ask, bound, check_interval
from nomad.sip.errors import Reject, SipError
from nomad.sip.message import Request, Response


def invite(*headers: tuple[str, str], method: str = "INVITE") -> Request:
    request = Request(method, "sip:1000@inria.example")
    for name, value in headers:
        request.add(name, value)
    return request


TIMER = ("supported", "100rel, timer")


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_too_short_an_interval_is_refused_with_the_least(method: str) -> None:
    with pytest.raises(Reject) as caught:
        check_interval(invite(("session-expires", "60;refresher=uac"), TIMER, method=method), 90)
    assert (caught.value.status, caught.value.headers) == (422, (("Min-SE", "90"),))


def test_what_need_not_or_cannot_be_refused_passes() -> None:
    check_interval(invite(("session-expires", "90"), TIMER), 90)
    check_interval(invite(("session-expires", "60")), 90)  # it would not understand the 422
    check_interval(invite(TIMER), 90)
    check_interval(invite(("session-expires", "60"), TIMER, method="BYE"), 90)


def test_what_the_answer_says_is_agreed() -> None:
    answer = Response(200, "OK")
    answer.add("session-expires", "1800;refresher=uas")
    assert agree(invite(("session-expires", "600"), TIMER), answer) == 1800
    assert answer.get_all("session-expires") == ["1800;refresher=uas"]


def test_caller_refreshes_alone_when_the_callee_knows_no_timers() -> None:
    answer = Response(200, "OK")
    answer.add("require", "100rel")
    assert agree(invite(("session-expires", "600"), TIMER), answer) == 600
    assert answer.get("session-expires") == "600;refresher=uac"
    assert answer.elements("require") == ["100rel", "timer"]


def test_no_timer() -> None:
    answer = Response(200, "OK")
    assert agree(invite(TIMER), answer) is None
    assert agree(invite(("session-expires", "600")), answer) is None
    assert not answer.has("session-expires")


def test_malformed_interval() -> None:
    with pytest.raises(SipError):
        check_interval(invite(("session-expires", "soon"), TIMER), 90)
    answer = Response(200, "OK")
    answer.add("session-expires", "later")
    assert agree(invite(TIMER), answer) is None


@pytest.mark.parametrize(
    ("asked", "most_s", "sent"),
    [
        ([], 300, "300"),
        ([("session-expires", "1800;refresher=uac;x=1")], 300, "300;refresher=uac;x=1"),
        ([("session-expires", "1800")], 300, "300"),
        ([("session-expires", "200")], 300, "200"),
        ([], 30, "90"),  # what the edge itself does not refuse
        ([("min-se", "600;x"), ("session-expires", "1800")], 300, "600"),
        ([("min-se", "soon")], 300, "300"),
        ([("session-expires", "1800")], None, "1800"),
        ([], None, None),
    ],
)
def test_an_idle_timeout_bounds_the_interval(
    asked: list[tuple[str, str]], most_s: int | None, sent: str | None
) -> None:
    request = invite(*asked, TIMER)
    bound(request, most_s, 90)
    assert request.get("session-expires") == sent
    assert len(request.get_all("session-expires")) == (sent is not None)


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ([], ["1800"]),
        ([("min-se", "2400")], ["2400"]),
        ([("min-se", "soon")], ["1800"]),
        ([("session-expires", "600;refresher=uac")], ["600;refresher=uac"]),
    ],
)
def test_edge_asks_for_a_timer_where_nobody_does(headers: list[tuple[str, str]], asked: list[str]) -> None:
    request = invite(*headers)
    ask(request, 1800)
    assert request.get_all("session-expires") == asked


def test_edge_asks_for_no_timer_when_it_is_switched_off_or_has_no_business_to() -> None:
    request = invite()
    ask(request, 0)
    other = invite(method="BYE")
    ask(other, 1800)
    assert not request.has("session-expires")
    assert not other.has("session-expires")
