"""Each rule of the proxy that one request or one answer shows, against the edge as a process, by SIPp on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from tests.harness.edge import Edge
from tests.harness.people import ALICE, DOMAIN
from tests.harness.ports import HOST, free_port
from tests.harness.sipp import Sipp, credentials
from tests.interop.conftest import NewFolder

PBX_PORT = free_port()
URI = f"sip:1000@{DOMAIN}"
ROUTED = f"Record-Route: <sip:{HOST}:[0-9]+;lr;c=[0-9a-f]+>"


@pytest.fixture(scope="module")
def edge(new_folder: NewFolder) -> Iterator[Edge]:
    """An edge whose PBX is SIPp."""
    server = Edge(new_folder("edge-proxy"), pbx=f"sip:{HOST}:{PBX_PORT}")
    yield server
    server.stop()


def ask(edge: Edge, folder: Path, scenario: str, expect: str, *, transport: str = "udp", **values: str) -> None:
    """Run a caller to its end, which must be as the scenario says."""
    texts = {"HEADERS": "X-Nothing: here", **values, "EXPECT": quoted(expect)}
    fields = [(ALICE.login, credentials(ALICE.login, ALICE.password))]
    done = Sipp(
        folder,
        scenario,
        target=edge.address,
        fields=fields,
        values=texts,
        transport=transport,
        auth_uri=URI.removeprefix("sip:"),
        timeout_s=10,
    ).wait()
    assert (done.successful, done.failed) == (1, 0), done.errors + done.messages


def quoted(expect: str) -> str:
    return escape(expect, {'"': "&quot;"})


RULES = {
    "hops are used up": ({"METHOD": "MESSAGE", "HOPS": "0"}, "483 Too Many Hops"),
    "hops are no number": ({"HOPS": "many"}, "400 Max-Forwards: number expected"),
    "proxy extension": ({"HEADERS": "Proxy-Require: warp"}, "420 Bad Extension.*Unsupported: warp"),
    "extension": ({"HEADERS": "Require: path, warp"}, "420 Bad Extension.*Unsupported: warp"),
    "scheme": ({"URI": "mailto:1000@x"}, "416 Unsupported URI Scheme"),
    "method": ({"METHOD": "WARP"}, "501 Not Implemented.*Allow: INVITE"),
    "route to elsewhere": ({"METHOD": "MESSAGE", "HEADERS": "Route: <sip:192.0.2.9;lr>"}, "403 Route not allowed"),
    "no dialog": ({"METHOD": "BYE"}, "481 Call/Transaction Does Not Exist"),
    "nothing to cancel": ({"METHOD": "CANCEL"}, "481 Call/Transaction Does Not Exist"),
    "news for nobody": ({"METHOD": "NOTIFY"}, "481 Call/Transaction Does Not Exist"),
    "health check": ({}, "200 OK.*Supported: path, outbound, gruu"),
    "received and rport": ({}, f"received={HOST}|Via: SIP/2.0/[A-Z]+ {HOST}:[0-9]+;branch"),
}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("rule", RULES)
def test_rule_of_one_request(edge: Edge, sipp_folder: Path, rule: str, transport: str) -> None:
    values, expect = RULES[rule]
    code = expect[:3] if expect[0].isdigit() else "200"
    defaults = {"METHOD": "OPTIONS", "URI": URI, "HOPS": "70", "CODE": code}
    ask(edge, sipp_folder, "proxy_rule", expect, transport=transport, **{**defaults, **values})


@pytest.mark.parametrize(
    ("headers", "expect"),
    [
        ("Max-Breadth: 0", "440 Max-Breadth Exceeded"),
        ("Session-Expires: 30\n    Supported: timer", "422 Session Interval Too Small.*Min-SE: 90"),
        ("Record-Route: <sip:x", "400 Record-Route: "),
    ],
)
def test_rule_of_a_call_that_goes_nowhere(edge: Edge, sipp_folder: Path, headers: str, expect: str) -> None:
    ask(edge, sipp_folder, "proxy_call", expect, HEADERS=headers, CODE=expect[:3])


@pytest.mark.parametrize(
    ("sent", "headers", "seen", "got"),
    [
        ("486", "X: y", "Max-Forwards: 69", "486 Whatever"),
        ("486", "X: y", ROUTED, "486 "),
        ("486", "X: y", f'P-Asserted-Identity: "Alice Martin" <sip:{ALICE.extension}@{DOMAIN}>', "486 "),
        ("486", "X: y", "Max-Breadth: 60", "486 "),
        ("486", "X: y", "Session-Expires: 1800", "486 "),
        ("486", "X: y", f"INVITE sip:1000@{HOST}:{PBX_PORT} SIP/2.0", "486 "),
        ("603", "X: y", "INVITE", "603 Whatever"),
        ("503", "Retry-After: 5", "INVITE", "500 Server Internal Error"),
        ("302", "Contact: <sip:1001@192.0.2.9>", "INVITE", "302 Whatever.*sip:1001@192.0.2.9"),
        ("407", 'Proxy-Authenticate: Digest realm="y", nonce="n"', "INVITE", '407 .*realm="y"'),
    ],
)
def test_what_the_pbx_sees_and_what_comes_back(
    edge: Edge, sipp_folder: Path, sent: str, headers: str, seen: str, got: str
) -> None:
    answers = {"EXPECT": quoted(seen), "CODE": sent, "HEADERS": headers}
    pbx = Sipp(sipp_folder / "pbx", "pbx_answers", values=answers, port=PBX_PORT, timeout_s=10)
    try:
        ask(edge, sipp_folder / "phone", "proxy_call", got, CODE=got[:3])
        done = pbx.wait()
        assert (done.successful, done.failed) == (1, 0), done.errors + done.messages
    finally:
        pbx.stop()


def test_a_call_that_is_cancelled_while_it_rings(edge: Edge, sipp_folder: Path) -> None:
    pbx = Sipp(sipp_folder / "pbx", "pbx_rings", port=PBX_PORT, timeout_s=10)
    try:
        ask(edge, sipp_folder / "phone", "proxy_cancel", "")
        done = pbx.wait()
        assert (done.successful, done.failed) == (1, 0), done.errors + done.messages
    finally:
        pbx.stop()
