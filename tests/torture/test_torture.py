"""Every message of RFC 4475 and RFC 5118 gets the verdict of its row, and the accepted ones are read right."""

from pathlib import Path

import pytest

from nomad.sip.build import response_to
from nomad.sip.errors import SipError
from nomad.sip.headers import Credentials
from nomad.sip.message import MalformedMessage, Request, Response, parse_message
from tests.torture.manifest import RFC4475, RFC5118, Row

HERE = Path(__file__).parent
ROWS = [("rfc4475", row) for row in RFC4475] + [("rfc5118", row) for row in RFC5118]
ALTERED = {"dblreq", "inv2543"}  # what follows the first message is dropped; Content-Length is added


def load(folder: str, name: str) -> bytes:
    return (HERE / folder / f"{name}.dat").read_bytes()


def request(name: str, folder: str = "rfc4475") -> Request:
    message = parse_message(load(folder, name))
    assert isinstance(message, Request)
    return message


def response(name: str) -> Response:
    message = parse_message(load("rfc4475", name))
    assert isinstance(message, Response)
    return message


def test_every_message_has_one_row() -> None:
    for folder, rows in (("rfc4475", RFC4475), ("rfc5118", RFC5118)):
        assert sorted(row.name for row in rows) == sorted(path.stem for path in (HERE / folder).glob("*.dat"))


@pytest.mark.parametrize(("folder", "row"), ROWS, ids=[row.name for _, row in ROWS])
def test_verdict(folder: str, row: Row) -> None:
    data = load(folder, row.name)
    if row.verdict == "parse":
        with pytest.raises(MalformedMessage) as refused:
            parse_message(data)
        error: SipError = refused.value
        salvaged = refused.value.request
        assert (salvaged is not None) is row.answered
        if salvaged is not None:
            answer = response_to(salvaged, error.status, to_tag="t")
            assert answer.encode().startswith(b"SIP/2.0 %d " % row.status)
            assert all(answer.has(name) for name in ("via", "from", "to", "call-id", "cseq"))
    else:
        message = parse_message(data)
        if row.name not in ALTERED:
            assert message.encode() == data
        if row.verdict == "accept":
            message.check()
            return
        assert row.verdict == "typed"
        with pytest.raises(SipError) as found:
            message.check()
        error = found.value
    assert (error.reason, error.header, error.status) == (row.reason, row.header, row.status)


# -- what the accepted ones say ------------------------------------------------------------------------------------


def test_wsinv() -> None:
    message = request("wsinv")
    assert (message.from_.display, message.from_.tag, message.to.tag) == ('J Rosenberg \\"', "98asjd8", "1918181833n")
    assert (message.max_forwards, message.cseq.number, message.get("subject")) == (68, 9, "")
    assert [(via.transport, via.host, via.branch) for via in message.vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert message.get("newfangledheader") == "newfangled value continued newfangled value"
    assert message.get("unknownheaderwithunusualvalue") == ";;,,;;,;"
    assert message.routes[0].uri.params == {"lr": None, "unknownwith": "value", "unknown-no-value": None}
    (contact,) = message.contacts
    assert (contact.display, contact.params) == (
        'Quoted string ""',
        {"newparam": "newvalue", "secondparam": None, "q": "0.33"},
    )
    assert len(message.body) == 150


def test_intmeth() -> None:
    message = request("intmeth")
    assert message.method == message.cseq.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.from_.display == "token1~` token2'+_ token3*%!.-"
    assert (message.from_.tag, message.max_forwards) == ("_token~1'+`*%!-.", 255)
    assert message.from_.params["fromparam''~+*_!.-%"] == "работающий"
    assert message.uri.host == "example.com"
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.get("extensionheader-!.%*+_`'~") == "\ufeff大停電"


def test_escapes() -> None:
    esc01 = request("esc01")
    assert (esc01.uri.unescaped_user, esc01.uri.host) == ("sips:user@example.com", "example.net")
    assert (esc01.to.uri.unescaped_user, esc01.from_.uri.unescaped_user) == ("user", "I have spaces")
    assert esc01.contacts[0].uri.unescaped_user == "caller"
    assert esc01.contacts[0].uri.params == {"lr": None, "name": "value%41"}
    escnull = request("escnull")
    assert [contact.uri.unescaped_user for contact in escnull.contacts] == ["\x00", "\x00\x00"]
    assert not escnull.contacts[0].uri.equivalent(escnull.contacts[1].uri)
    esc02 = request("esc02")
    assert (esc02.method, esc02.to.display, esc02.via.branch) == ("RE%47IST%45R", "%Z%45", "z9hG4bK209%fzsnel234")
    assert [contact.uri.user for contact in esc02.contacts] == ["alias1", "alias3"]
    assert esc02.get("c%6fntact") == "<sip:alias2@host2.example.com>"
    assert request("escruri").uri.headers == "Route=%3Csip:example.com%3E"
    assert request("regescrt").contacts[0].uri.headers == "Route=%3Csip:sip.example.com%3E"
    assert request("semiuri").uri.unescaped_user == "user;par=u@example.net"


def test_long_and_double() -> None:
    longreq = request("longreq")
    assert len(longreq.vias) == 34
    assert longreq.vias[-1].received == "192.0.2.5"
    assert request("dblreq").body == b""
    assert (request("dblreq").call_id, request("dblreq").uri.text) == (
        "dblreq.0ha0isndaksdj99sdfafnl3lk233412",
        "sip:example.com",
    )
    assert len(request("mpart01").body) == 553
    assert [via.transport for via in request("transports").vias] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_responses() -> None:
    assert (response("unreason").reason[:4], response("unreason").status) == ("= 2*", 200)
    assert response("unreason").reason.endswith("простое")
    assert (response("noreason").status, response("noreason").reason) == (100, "")
    assert response("bcast").vias[1].host == "255.255.255.255"


def test_parameters_and_schemes() -> None:
    outside, inside = request("cparam01").contacts[0], request("cparam02").contacts[0]
    assert (outside.params, outside.uri.params) == ({"unknownparam": None}, {})
    assert (inside.params, inside.uri.params) == ({}, {"unknownparam": None})
    assert (request("unkscm").uri.scheme, request("novelsc").uri.scheme) == ("nobodyknowsthisscheme", "soap.beep")
    unksm2 = request("unksm2")
    assert (unksm2.to.uri.opaque, unksm2.from_.uri.scheme, unksm2.contacts[0].uri_text) == (
        "2983792873",
        "http",
        "name:John_Smith",
    )
    assert Credentials.parse(request("regaut01").get("authorization") or "").scheme == "NoOneKnowsThisScheme"
    assert (request("zeromf").max_forwards, request("inv2543").max_forwards) == (0, None)
    assert request("bext01").elements("require") == ["nothingSupportsThis", "nothingSupportsThisEither"]


def test_bare_display_name_with_a_comma_is_read_liberally_once_the_header_has_its_end() -> None:
    message = parse_message(load("rfc4475", "baddn") + b"\r\n")  # RFC 4475 3.1.2.15 allows it
    assert (message.from_.display, message.to.display) == ("Bell, Alexander", "Watson, Thomas")
    message.check()


def test_ipv6() -> None:
    ambiguous, clear = request("port-ambiguous", "rfc5118").uri, request("port-unambiguous", "rfc5118").uri
    assert (ambiguous.host, ambiguous.port) == ("[2001:db8::10:5070]", None)
    assert (clear.host, clear.port) == ("[2001:db8::10]", 5070)
    for name in ("via-received-param-with-delim", "via-received-param-no-delim"):
        assert request(name, "rfc5118").via.received == "2001:db8::9:255"
    assert [via.sent_by for via in request("mult-ip-in-header", "rfc5118").vias] == [
        "[2001:db8::9:1]:6050",
        "192.0.2.1",
        "[2001:db8::9:255]",
    ]
    one, two = (request(f"ipv6-{name}", "rfc5118").uri for name in ("bug-abnf-3-colons", "correct-abnf-2-colons"))
    assert one.equivalent(two)
