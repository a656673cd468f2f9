from __future__ import annotations

import pytest

from nomad.edge.forwarding import target_of, tell, times_diverted
from nomad.sip.errors import SipError
from nomad.sip.message import Request, Response


def moved(*contacts: str) -> Response:
    response = Response(302, "Moved")
    for contact in contacts:
        response.add("contact", contact)
    return response


def invite(*headers: tuple[str, str]) -> Request:
    request = Request("INVITE", "sip:0123@10.0.0.5")
    for name, value in headers:
        request.add(name, value)
    return request


def test_preferred_contact() -> None:
    target = target_of(moved("<sip:1@x>;q=0.5", "<sip:2@x>", "<sip:3@x>;q=0.9"))
    assert target is not None
    assert target.user == "2"
    assert target_of(moved()) is None
    assert target_of(moved("*")) is None
    with pytest.raises(SipError):
        target_of(moved("<sip:"))


def test_diversions_are_counted_in_either_header() -> None:
    assert times_diverted(invite()) == 0
    assert times_diverted(invite(("diversion", "<sip:1@x>, <sip:2@x>"))) == 2
    history = "<sip:1@x>;index=1, <sip:2@x;cause=302>;index=1.1, <sip:3@x;cause=486>;index=1.1.1"
    assert times_diverted(invite(("history-info", history))) == 2


@pytest.mark.parametrize(
    ("style", "before", "after"),
    [
        ("diversion", [], ["<sip:b@x>;reason=unconditional;counter=1"]),
        ("diversion", ["<sip:a@x>"], ["<sip:b@x>;reason=unconditional;counter=1", "<sip:a@x>"]),
        ("history-info", [], ["<sip:b@x>;index=1", "<sip:c@x;cause=302>;index=1.1;mp=1"]),
        (
            "history-info",
            ["<sip:a@x>;index=1.2"],
            ["<sip:a@x>;index=1.2", "<sip:b@x>;index=1.2.1", "<sip:c@x;cause=302>;index=1.2.1.1;mp=1.2.1"],
        ),
        ("history-info", ["<sip:a"], ["<sip:a", "<sip:b@x>;index=1", "<sip:c@x;cause=302>;index=1.1;mp=1"]),
        (
            "history-info",
            ["<sip:a@x>;index=one"],
            ["<sip:a@x>;index=one", "<sip:b@x>;index=1", "<sip:c@x;cause=302>;index=1.1;mp=1"],
        ),
        ("", [], []),
    ],
)
def test_who_sent_it_on_is_told_as_the_pbx_reads_it(style: str, before: list[str], after: list[str]) -> None:
    request = invite(*((style, value) for value in before))
    tell(request, style, by="sip:b@x", to="sip:c@x", status=302)
    assert request.get_all(style or "diversion") == after
