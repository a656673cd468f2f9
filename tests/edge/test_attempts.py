"""nomad.edge.attempts: what the policy is asked of a request, and the answer that its verdict becomes."""

from __future__ import annotations

import pytest

from nomad.edge.attempts import attempt_of, check_media, refusal_of
from nomad.edge.policy import Attempt, Direction, Ruleset, Used, Verdict, compile_policy
from nomad.edge.sides import Incoming
from nomad.ports import Grant, Limits
from nomad.sip.errors import Reject
from nomad.sip.events import Flow, ServerKey
from nomad.sip.message import Request
from tests.harness.peers import SDP

PLAIN = compile_policy("", "p")
STRICT = compile_policy(
    '[[group]]\nname = "a"\nmatch = { default = true }\ncountries = ["FR"]\nmedia_encryption = true\n', "p"
)
SRTP = SDP.replace(b"RTP/AVP", b"RTP/SAVP")
GRANT = Grant("alice", groups=("g",), classes=(b"c",), limits=Limits(call_s=5), allowed_classes=("internal",))
USED = Used(seconds_today=1.0, seconds_this_month=2.0, cost_today=3.0, calls_last_hour=4)


class Asked:
    """Knows one country, and how often it was asked."""

    count = 0

    def of(self, address: str) -> str | None:
        self.count += 1
        return "FR"


def attempt(
    ruleset: Ruleset, countries: Asked, *, method: str = "INVITE", body: bytes = b"", way: Direction = Direction.OUT
) -> Attempt:
    request = Request(method, "sip:1000@inria.example")
    request.body = body
    incoming = Incoming(
        ServerKey("branch", "host", method), request, Flow("tls", ("192.0.2.1", 5061), ("192.0.2.9", 4))
    )
    return attempt_of(
        incoming,
        GRANT,
        "1000",
        ruleset=ruleset,
        countries=countries,
        used=USED,
        at=5.0,
        active_calls=6,
        direction=way,
        forwarded_calls=7,
    )


def test_everything_that_is_known_is_told() -> None:
    told = attempt(PLAIN, Asked(), way=Direction.FORWARD)
    assert told == Attempt(
        GRANT,
        "1000",
        source="192.0.2.9",
        at=5.0,
        direction=Direction.FORWARD,
        transport="tls",
        active_calls=6,
        forwarded_calls=7,
        used=USED,
    )


def test_what_no_group_asks_for_is_not_looked_up() -> None:
    countries = Asked()
    assert not attempt(PLAIN, countries, body=SRTP).encrypted_media
    assert countries.count == 0
    assert attempt(STRICT, countries, body=SRTP).country == "FR"


@pytest.mark.parametrize(
    ("method", "body", "encrypted"),
    [
        ("INVITE", SRTP, True),
        ("INVITE", SDP, False),
        ("INVITE", b"", False),  # whoever answers would make the offer
        ("MESSAGE", b"hello", True),  # there are no media
    ],
)
def test_whether_media_are_encrypted(method: str, body: bytes, encrypted: bool) -> None:
    assert attempt(STRICT, Asked(), method=method, body=body).encrypted_media is encrypted


def test_a_refusal_says_why_twice_and_tells_strangers_nothing() -> None:
    notes = (("deny", 7, "nobody may call {}", ("premium",)),)
    reject = refusal_of(Verdict(False, "g", "premium", "deny", 'No "premium"', notes), "inria.example")
    assert (reject.status, reject.reason, reject.rule) == (403, 'No "premium"', "policy-deny")
    assert reject.headers == (("Warning", '399 inria.example "No \\"premium\\""'),)
    assert reject.why == "nobody may call premium (line 7)"
    stranger = refusal_of(Verdict(False, "g", "internal", "from_internet", "", notes, status=480), "inria.example")
    assert (stranger.status, stranger.reason, stranger.headers) == (480, "", ())


@pytest.mark.parametrize(
    ("method", "body", "refused"),
    [
        ("INVITE", SDP, True),
        ("UPDATE", SDP, True),
        ("INVITE", SRTP, False),
        ("INVITE", b"", False),
        ("INVITE", SDP.replace(b"4000", b"0"), False),  # ends the stream
        ("INFO", SDP, False),
    ],
)
def test_a_call_stays_encrypted(method: str, body: bytes, refused: bool) -> None:
    request = Request(method, "sip:1000@inria.example")
    request.body = body
    if not refused:
        check_media(request)
        return
    with pytest.raises(Reject) as reject:
        check_media(request)
    assert (reject.value.status, reject.value.rule) == (488, "policy-media_encryption")
