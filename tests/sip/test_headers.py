"""Typed header values."""

import pytest

from nomad.sip.errors import SipError
from nomad.sip.headers import Challenge, Credentials, CSeq, NameAddr, Via

# -- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "display", "uri_text", "params"),
    [
        ("<sip:a@b>", "", "sip:a@b", {}),
        ("sip:a@b", "", "sip:a@b", {}),
        ("sip:a@b;tag=1", "", "sip:a@b", {"tag": "1"}),
        ("sip:a@b ;   tag    = 1918181833n", "", "sip:a@b", {"tag": "1918181833n"}),
        ("<sip:a@b;lr>;tag=1", "", "sip:a@b;lr", {"tag": "1"}),
        ("caller<sip:a@b>;tag=323", "caller", "sip:a@b", {"tag": "323"}),
        ("A. B. Alice <sip:a@b>", "A. B. Alice", "sip:a@b", {}),
        ("Bell, Alexander <sip:a@b>;tag=43", "Bell, Alexander", "sip:a@b", {"tag": "43"}),
        ('"J Rosenberg \\\\\\""       <sip:a@b>\t; tag = 98', 'J Rosenberg \\"', "sip:a@b", {"tag": "98"}),
        ('"<sip:x>;y" <sip:a@b>', "<sip:x>;y", "sip:a@b", {}),
        ('sip:a@b;x="<y>"', "", "sip:a@b", {"x": "<y>"}),
        ("Élise\udcff <sip:a@b>", "Élise\udcff", "sip:a@b", {}),
        ('""<tel:+1>', "", "tel:+1", {}),
        ("<sip:a@b,c>;self=1", "", "sip:a@b,c", {"self": "1"}),
    ],
)
def test_name_addr(text: str, display: str, uri_text: str, params: dict[str, str | None]) -> None:
    address = NameAddr.parse(text)
    assert (address.display, address.uri_text, address.params) == (display, uri_text, params)
    assert address.tag == (params.get("tag") or "")
    assert NameAddr.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";tag=1",
        "*<",
        "<>",
        "<sip:a@b",
        '"Mr. J. User <sip:a@b>',
        '"x" sip:a@b',
        '"x"',
        'a "x" <sip:a@b>',
        "sip:a@b?Route=x",
        "sip:a,b@c",
        "sip:a b@c",
        "sip:a@b>",
        "<sip:a@b> tag=1",
        "<sip:a@b>;;",
        "<sip:a@b>;a;a",
    ],
)
def test_malformed_name_addr(text: str) -> None:
    with pytest.raises(SipError):
        NameAddr.parse(text)


def test_the_uri_of_an_address_is_parsed_when_asked_for() -> None:
    address = NameAddr.parse("< sip:a@b >")
    with pytest.raises(SipError):
        _ = address.uri
    good = NameAddr.parse("<sip:A@B>")
    assert good.uri.address == "A@b"
    assert good.uri is good.uri


def test_name_addr_is_written_with_quotes_and_parameters() -> None:
    address = NameAddr("sip:a@b", 'Say "hi"', {"tag": "1", "x": None, "y": "a b"})
    assert str(address) == '"Say \\"hi\\"" <sip:a@b>;tag=1;x;y="a b"'
    assert address.tag == "1"
    assert repr(NameAddr("sip:a")) == "NameAddr('<sip:a>')"
    assert hash(NameAddr("sip:a")) == hash(NameAddr.parse("<sip:a>"))
    assert NameAddr("sip:a") != "<sip:a>"


# -- Via -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "transport", "sent_by", "branch"),
    [
        ("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", "UDP", "192.0.2.1:5060", "z9hG4bK1"),
        ("SIP/2.0/tls Host.Example;branch=z9", "TLS", "host.example", "z9"),
        ("SIP/2.0/UDP [2001:DB8::9:1]:6050", "UDP", "[2001:db8::9:1]:6050", ""),
        ("SIP  /   2.0 /UDP 192.0.2.2;branch=390skdjuw", "UDP", "192.0.2.2", "390skdjuw"),
        ("sip / 2.0  / TCP     spindle   ; branch  =   z9hG4bK9ikj8", "TCP", "spindle", "z9hG4bK9ikj8"),
        ("SIP/2.0/WSS x.invalid : 5060", "WSS", "x.invalid:5060", ""),
    ],
)
def test_via(text: str, transport: str, sent_by: str, branch: str) -> None:
    via = Via.parse(text)
    assert (via.transport, via.sent_by, via.branch) == (transport, sent_by, branch)
    assert Via.parse(str(via)) == via


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0 UDP h",
        "HTTP/2.0/UDP h",
        "SIP/2.0/UDP h:0",
        "SIP/2.0/UDP h:65536",
        "SIP/2.0/UDP h:",
        "SIP/2.0/UDP h x",
        "SIP/2.0/UDP h;;,;,,",
        "SIP/2.0/UDP h,",
        "SIP/2.0/UDP [::x]",
        "SIP/2.0/UDP h;branch=a;branch=b",
    ],
)
def test_malformed_via(text: str) -> None:
    with pytest.raises(SipError):
        Via.parse(text)


@pytest.mark.parametrize("value", ["2001:db8::9:255", "[2001:db8::9:255]"])
def test_received_with_and_without_brackets(value: str) -> None:
    assert Via.parse(f"SIP/2.0/UDP h;received={value}").received == "2001:db8::9:255"  # RFC 5118 4.5


def test_rport() -> None:
    asked = Via.parse("SIP/2.0/UDP h;rport")
    noted = asked.with_param("rport", "5062").with_param("received", "192.0.2.1")
    assert ("rport" in asked.params, asked.rport, asked.received) == (True, None, "")
    assert (noted.rport, noted.received) == (5062, "192.0.2.1")
    assert str(noted) == "SIP/2.0/UDP h;rport=5062;received=192.0.2.1"
    with pytest.raises(SipError):
        _ = asked.with_param("rport", "x").rport


def test_via_is_a_value() -> None:
    one, same = Via("UDP", "h", 5060, {"branch": "z"}), Via.parse("SIP/2.0/UDP h:5060;branch=z")
    assert one == same
    assert hash(one) == hash(same)
    assert one != Via("TCP", "h")
    assert one != "SIP/2.0/UDP h:5060;branch=z"
    assert repr(Via("UDP", "h")) == "Via('SIP/2.0/UDP h')"


# -- CSeq ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1 INVITE", (1, "INVITE")), ("0009   INVITE", (9, "INVITE")), ("2147483647\tX", (2**31 - 1, "X"))],
)
def test_cseq(text: str, expected: tuple[int, str]) -> None:
    assert CSeq.parse(text) == expected


def test_cseq_text() -> None:
    assert str(CSeq(3, "BYE")) == "3 BYE"


@pytest.mark.parametrize(
    "text",
    ["", "1", "INVITE", "-1 A", "1 A B", "2147483648 A", "36893488147419103232 R", "٣ A", "1 é", "9" * 5000 + " A"],
)
def test_malformed_cseq(text: str) -> None:
    with pytest.raises(SipError):
        CSeq.parse(text)


# -- authentication ------------------------------------------------------------------------------------------------


def test_credentials() -> None:
    text = (
        'Digest username="a\\"b", realm="inria.example", nonce="n,1", uri="sip:h", response="00ff", '
        'algorithm=SHA-256, qop=auth, nc=00000001, cnonce="c"'
    )
    credentials = Credentials.parse(text)
    assert credentials.scheme == "Digest"
    assert (credentials.get("username"), credentials.get("nonce"), credentials.get("opaque")) == ('a"b', "n,1", "")
    assert str(credentials) == text
    assert Credentials.parse(str(credentials)) == credentials
    assert "00ff" not in repr(credentials)


def test_values_are_quoted_as_the_rfc_wants_them_whatever_came() -> None:
    credentials = Credentials.parse('digest USERNAME=alice,qop="auth" ,\tnc="00000001"')
    assert str(credentials) == 'digest username="alice", qop=auth, nc=00000001'
    challenge = Challenge("Digest", {"realm": "r", "qop": "auth,auth-int", "stale": "TRUE", "algorithm": "MD5"})
    assert str(challenge) == 'Digest realm="r", qop="auth,auth-int", stale=TRUE, algorithm=MD5'


def test_other_schemes() -> None:
    assert Credentials.parse("NoOneKnowsThisScheme opaque-data=here").params == {"opaque-data": "here"}
    basic = Credentials.parse("Basic YWxpY2U6eA==")
    assert (basic.token, str(basic)) == ("YWxpY2U6eA==", "Basic YWxpY2U6eA==")
    assert str(Credentials.parse("Negotiate")) == "Negotiate"


def test_authentication_values_are_values() -> None:
    one, same = Challenge("Digest", {"realm": "r"}), Challenge.parse('Digest realm="r"')
    assert one == same
    assert hash(one) == hash(same)
    assert one != Challenge("Digest")
    assert one != Credentials("Digest", {"realm": "r"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"Digest"',
        "Digest,",
        'Digest realm="a"b',
        'Digest realm="a" nonce="b"',
        'Digest realm="a", realm="b"',
        'Digest realm="',
        "Digest realm= ,x=1",
        "Digest ,",
        "Digest " + ',"' * 60,
        "Digest a=" + '"\\' * 60,
    ],
)
def test_malformed_credentials(text: str) -> None:
    with pytest.raises(SipError):
        Credentials.parse(text)
