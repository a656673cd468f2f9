"""SIP, SIPS, tel and opaque URIs."""

import pytest

from nomad.sip.errors import SipError
from nomad.sip.uri import Uri, escape_user, unescape

ROUND_TRIPS = [
    "sip:alice@inria.example",
    "sip:inria.example",
    "sips:alice:secret@inria.example:5061;transport=tcp;lr",
    "sip:alice:@host",
    "sip:[2001:db8::10]:5070",
    "sip:user@[::ffff:192.0.2.2];x=[::1]",
    "sip:user;par=u%40example.net@example.com",
    "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com",
    "sip:a@b?to=sip:bob%40c&subject=x",
    "sip:a@b;method=REGISTER?x=y",
    "sip:%00@host5.example.com",
    "sip:a@b;x=%3B%2541",
    "tel:+33-1.39(63)5511",
    "tel:5511;phone-context=inria.example",
    "urn:service:sos",
    "isbn:2983792873",
    "soap.beep://192.0.2.103:3002",
]


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_text_is_what_was_parsed(text: str) -> None:
    assert str(Uri.parse(text)) == text


def test_parts() -> None:
    uri = Uri.parse("SIPS:%41lice:pw@Host.Example:5061;Transport=TLS;lr;maddr=192.0.2.1?a=b")
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port) == ("sips", "%41lice", "pw", "host.example", 5061)
    assert uri.params == {"transport": "TLS", "lr": None, "maddr": "192.0.2.1"}
    assert (uri.headers, uri.transport, uri.lr, uri.maddr) == ("a=b", "tls", True, "192.0.2.1")
    assert (uri.unescaped_user, uri.address) == ("Alice", "Alice@host.example")


def test_parts_that_are_absent() -> None:
    uri = Uri.parse("sip:host")
    assert (uri.user, uri.password, uri.port, uri.params, uri.headers) == ("", None, None, {}, "")
    assert (uri.transport, uri.lr, uri.maddr, uri.address) == ("", False, "", "host")


def test_escapes_in_parameters_are_resolved() -> None:
    uri = Uri.parse("sip:a@b;%6C%72;n%61me=v%61lue%25%34%31")  # RFC 4475 3.1.1.3
    assert uri.lr
    assert uri.params["name"] == "value%41"
    assert uri.text == "sip:a@b;lr;name=value%2541"


def test_opaque_and_tel() -> None:
    opaque, tel = Uri.parse("NAME:John_Smith"), Uri.parse("tel:+331;Ext=2")
    assert (opaque.scheme, opaque.opaque, opaque.host) == ("name", "John_Smith", "")
    assert (tel.user, tel.host, tel.params) == ("+331", "", {"ext": "2"})


def test_ipv6_reference_takes_the_port_only_behind_the_bracket() -> None:
    ambiguous, clear = Uri.parse("sip:[2001:db8::10:5070]"), Uri.parse("sip:[2001:DB8::10]:5070")  # RFC 5118 4.3, 4.4
    assert (ambiguous.host, ambiguous.port) == ("[2001:db8::10:5070]", None)
    assert (clear.host, clear.port) == ("[2001:db8::10]", 5070)


def test_three_colons_before_an_ipv4_part_are_two() -> None:
    assert Uri.parse("sip:u@[2001:db8:::192.0.2.1]").host == "[2001:db8::192.0.2.1]"  # RFC 5118 4.10
    with pytest.raises(SipError):
        Uri.parse("sip:u@[2001:db8:::10]")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        ":x",
        "1x:y",
        "sip:",
        "sip:@host",
        "sip:a@",
        "sip:a@b@c",
        "sip:a b@c",
        "sip:a%4@c",
        "sip:a%zz@c",
        "sip:2001:db8::10",
        "sip:[2001:db8::zz]",
        "sip:[::1",
        "sip:[1.2]",
        "sip:h:",
        "sip:h:0",
        "sip:h:65536",
        "sip:h:123456",
        "sip:h;",
        "sip:h;;a",
        "sip:h;=1",
        "sip:h;a=b=c",
        "sip:h;a;A",
        "sip:h?",
        "sip:h?a b",
        "sip:é@h",
        "sip:a\x00@h",
        "<sip:a@b>",
        "sip:h;" + ";".join(f"p{i}" for i in range(65)),
        "tel:",
        "tel:+",
        "tel:-.",
        "tel:alice",
        "tel:1;",
        "urn:",
        "urn:a b",
        "urn:a<b",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(SipError):
        Uri.parse(text)


def test_build_escapes_the_user_and_brackets_ipv6() -> None:
    assert Uri.build("a b@é#", "Host").text == "sip:a%20b%40%C3%A9%23@host"
    assert Uri.build("", "2001:DB8::1", 5061, {"lr": None, "x": "a b;%41"}, "sips").text == (
        "sips:[2001:db8::1]:5061;lr;x=a%20b%3B%2541"
    )
    assert Uri.parse(Uri.build("a\r\n\x00é\udcff", "h").text).unescaped_user == "a\r\n\x00é\udcff"
    for host in ("a b", "", "h\r\n", "[::zz]", "1:2:x"):
        with pytest.raises(SipError):
            Uri.build("a", host)


def test_unescape_keeps_bytes_that_are_not_utf8() -> None:
    assert unescape("%C3%A9%ff%4") == "é\udcff%4"
    assert escape_user("\udcff") == "%FF"


def test_a_copy_with_other_parameters() -> None:
    uri = Uri.parse("sip:a:p@h:5070;x=1?y=z")
    assert uri.with_params({"lr": None}).text == "sip:a:p@h:5070;lr"
    assert uri.text == "sip:a:p@h:5070;x=1?y=z"


def test_value_semantics() -> None:
    one, same, other = (Uri.parse(text) for text in ("sip:a@H", "sip:a@h", "sip:b@h"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "sip:a@h"
    assert repr(one) == "Uri('sip:a@h')"


# RFC 3261 19.1.4: the examples of the text, and what its rules add.
EQUIVALENT = [
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
    ("tel:+1-201-555", "tel:+1201555"),
    ("urn:service:sos", "urn:service:sos"),
    ("sip:a%3bb@h", "sip:a%3Bb@h"),
]
DIFFERENT = [
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ("sip:a@h", "sips:a@h"),
    ("sip:a@h", "sip:a:p@h"),
    ("sip:a@h", "sip:a@h;user=phone"),
    ("sip:a@h;maddr=x", "sip:a@h"),
    ("sip:a%3Bb@h", "sip:a;b@h"),
    ("sip:a@[::1]", "sip:a@h"),
    ("sip:a@[::1]", "sip:a@[::2]"),
    ("tel:+1", "tel:+2"),
    ("tel:1;phone-context=a", "tel:1"),
    ("urn:a", "urn:b"),
]


@pytest.mark.parametrize(("one", "other"), EQUIVALENT)
def test_equivalent(one: str, other: str) -> None:
    assert Uri.parse(one).equivalent(Uri.parse(other))
    assert Uri.parse(other).equivalent(Uri.parse(one))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_not_equivalent(one: str, other: str) -> None:
    assert not Uri.parse(one).equivalent(Uri.parse(other))
    assert not Uri.parse(other).equivalent(Uri.parse(one))
