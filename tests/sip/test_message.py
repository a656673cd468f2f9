"""Messages from bytes, edited, and back to bytes."""

import pytest

from nomad.sip.errors import SipError
from nomad.sip.headers import CSeq
from nomad.sip.message import (
    MAX_HEAD_BYTES,
    MAX_HEADER_LINES,
    MAX_MESSAGE_BYTES,
    MAX_SALVAGED_VIAS,
    MalformedMessage,
    Message,
    Request,
    Response,
    parse_message,
)

HEAD = (
    "Via: SIP/2.0/UDP 192.0.2.10:5062;branch=z9hG4bK1;rport",
    "Max-Forwards: 70",
    'From: "Alice" <sip:alice@inria.example>;tag=f1',
    "To: <sip:bob@inria.example>",
    "Call-ID: c1@192.0.2.10",
    "CSeq: 2 INVITE",
)
START = "INVITE sip:bob@inria.example SIP/2.0"


def raw(*more: str, start: str = START, head: tuple[str, ...] = HEAD, body: bytes = b"") -> bytes:
    return "\r\n".join([start, *head, *more, "", ""]).encode("utf-8", "surrogateescape") + body


def without(name: str) -> tuple[str, ...]:
    return tuple(line for line in HEAD if not line.startswith(name))


def request(*more: str, head: tuple[str, ...] = HEAD, body: bytes = b"") -> Request:
    message = parse_message(raw(*more, head=head, body=body))
    assert isinstance(message, Request)
    return message


def refused(data: bytes) -> MalformedMessage:
    with pytest.raises(SipError) as caught:
        parse_message(data)
    assert isinstance(caught.value, MalformedMessage)
    return caught.value


# -- what is read --------------------------------------------------------------------------------------------------


def test_a_request() -> None:
    message = request("Content-Length: 3", body=b"abc")
    assert (message.method, message.uri_text) == ("INVITE", "sip:bob@inria.example")
    assert (message.uri.address, message.body, message.call_id) == ("bob@inria.example", b"abc", "c1@192.0.2.10")
    assert message.cseq == CSeq(2, "INVITE")
    assert (message.via.sent_by, message.via.branch) == ("192.0.2.10:5062", "z9hG4bK1")
    assert (message.from_.display, message.from_.tag, message.to.tag) == ("Alice", "f1", "")
    assert (message.max_forwards, message.expires, message.content_type) == (70, None, "")
    assert (message.contacts, message.contact_star, message.routes, message.record_routes) == ([], False, [], [])
    assert message.size == len(raw("Content-Length: 3", body=b"abc"))
    assert repr(message) == "<Request INVITE sip:bob@inria.example>"


def test_a_response() -> None:
    message = parse_message(raw("l: 0", start="SIP/2.0 486 Busy  Here"))
    assert isinstance(message, Response)
    assert (message.status, message.reason) == (486, "Busy  Here")
    assert repr(message) == "<Response 486 Busy  Here>"


def test_lists_over_lines_and_commas() -> None:
    message = request(
        "v: SIP/2.0/TCP b;branch=2, SIP/2.0/TLS c;branch=3",
        'm: "A, B" <sip:a@b>;q=0.5, <sip:c@d>',
        "Route: <sip:p1;lr>,<sip:p2;lr>",
        "Record-Route: <sip:r1;lr>",
        "Expires: 99999999999999999999",
        "c: Application/SDP ; charset=x",
    )
    assert [via.branch for via in message.vias] == ["z9hG4bK1", "2", "3"]
    assert [contact.display for contact in message.contacts] == ["A, B", ""]
    assert [route.uri.host for route in message.routes] == ["p1", "p2"]
    assert [route.uri_text for route in message.record_routes] == ["sip:r1;lr"]
    assert (message.expires, message.content_type) == (2**32 - 1, "application/sdp")
    assert message.contacts is message.contacts
    message.check()


def test_the_star_contact() -> None:
    star = request("Contact: *")
    assert (star.contact_star, star.contacts) == (True, [])
    star.check()
    mixed = request("Contact: *, <sip:a@b>")
    assert not mixed.contact_star
    with pytest.raises(SipError):
        _ = request("Contact: *", "Contact: <sip:a>").contacts[0].uri


def test_top_via_of_a_joined_line() -> None:
    head = ("Via: SIP/2.0/UDP a;branch=1 , SIP/2.0/UDP b;branch=2", *without("Via"))
    message = request(head=head)
    assert message.via.branch == "1"
    assert message.pop_first("via") == "SIP/2.0/UDP a;branch=1"
    assert message.via.branch == "2"
    quoted = request(head=('Via: SIP/2.0/UDP a;x="1,2";branch=1', *without("Via")))
    assert quoted.via.params["x"] == "1,2"


@pytest.mark.parametrize(
    ("lines", "name", "value"),
    [
        (("Subject: a", "  b", "\tc"), "subject", "a b c"),
        (("s :", " a"), "subject", "a"),
        (("SUBJECT\t: a",), "subject", "a"),
        (("X-NUL: a\x00b",), "x-nul", "a\x00b"),
        (("X-Raw: \udcff\udcfe",), "x-raw", "\udcff\udcfe"),
        (("X-Line: a\u2028b\x85c\x0bd",), "x-line", "a\u2028b\x85c\x0bd"),
        (("X-Empty:",), "x-empty", ""),
        (("X-Last: a", " b"), "x-last", "a b"),
    ],
)
def test_odd_header_lines_are_read_and_kept(lines: tuple[str, ...], name: str, value: str) -> None:
    data = raw(*lines, "Content-Length: 0")
    message = parse_message(data)
    assert message.get(name) == value
    assert message.encode() == data
    last = raw("Content-Length: 0", *lines)
    assert parse_message(last).encode() == last


def test_the_start_line_is_kept() -> None:
    for start in (START, "X!%*_+`'~ tel:+1 SIP/2.0", "SIP/2.0 100 ", "SIP/2.0 200 = 2**3 ню", "SIP/2.0 699 a\udcff"):
        head = (*without("CSeq"), "CSeq: 1 " + (start.split(" ")[0] if start[:3] != "SIP" else "INVITE"))
        data = raw("Content-Length: 0", start=start, head=head)
        assert parse_message(data).encode() == data


@pytest.mark.parametrize("start", ["INVITE sip:bob@inria.example sip/2.0", "sIp/2.0 200 OK"])
def test_the_version_may_be_in_any_case_but_is_sent_in_upper_case(start: str) -> None:
    message = parse_message(raw("Content-Length: 0", start=start))  # RFC 3261 7.1
    assert message.encode() == raw("Content-Length: 0", start=start.replace("sip/", "SIP/").replace("sIp/", "SIP/"))


def test_body_bounds() -> None:
    assert request("Content-Length: 2", body=b"abc").body == b"ab"  # RFC 3261 18.3
    assert request("Content-Length: 002", body=b"ab").body == b"ab"
    assert request(body=b"abc").body == b"abc"
    assert parse_message(b"\r\n\r\n\r\n" + raw("Content-Length: 0")).get("call-id") == "c1@192.0.2.10"


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        "",
        "INVITE",
        "INVITE sip:a",
        "INVITE  sip:a  SIP/2.0",
        "INVITE sip:a SIP/2.0 ",
        "INVITE sip:a; lr SIP/2.0",
        "INVITE <sip:a> SIP/2.0",
        "INVITE nocolon SIP/2.0",
        "INVITE  SIP/2.0",
        "IN@VITE sip:a SIP/2.0",
        "É sip:a SIP/2.0",
        "X" * 65 + " sip:a SIP/2.0",
        "INVITE sip:a HTTP/1.1",
        "INVITE sip:a SIP/2.0x",
        "INVITE sip:a SIP/",
        "GET / HTTP/1.1",
        "SIP/2.0",
        "SIP/2.0 200",
        "SIP/2.0 99 x",
        "SIP/2.0 099 x",
        "SIP/2.0 700 x",
        "SIP/2.0 4294967301 better not break the receiver",
        "SIP/2.0 ٢٠٠ x",
        "SIP/2.0 2x0 x",
        "SIP/2.0  200 x",
    ],
)
def test_malformed_start_lines(start: str) -> None:
    error = refused(raw(start=start))
    assert (error.reason, error.status) == ("start-line", 400)


@pytest.mark.parametrize("start", ["INVITE sip:a SIP/7.0", "INVITE sip:a SIP/2.00", "SIP/3.0 200 OK"])
def test_other_versions(start: str) -> None:
    error = refused(raw(start=start))
    assert (error.reason, error.status) == ("version", 505)


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_mandatory_headers(name: str) -> None:
    error = refused(raw(head=without(name)))
    assert (error.reason, error.header, error.request) == ("missing-header", name, None)


def test_max_forwards_may_be_missing() -> None:
    assert request(head=without("Max-Forwards")).max_forwards is None


@pytest.mark.parametrize(
    "line", ["i: other", "CSeq: 2 INVITE", "f: <sip:x>", "TO : <sip:x>", "Max-Forwards: 1", "l: 0\r\nContent-Length: 0"]
)
def test_headers_that_may_stand_only_once(line: str) -> None:
    error = refused(raw(line))
    assert error.reason == "duplicate-header"
    assert error.header.lower() in {"call-id", "cseq", "from", "to", "max-forwards", "content-length"}
    assert error.request is not None


@pytest.mark.parametrize("cseq", ["2 BYE", "2 invite", "2", "x INVITE", "-1 INVITE", "2147483648 INVITE", "", "2 \x00"])
def test_bad_cseq(cseq: str) -> None:
    error = refused(raw(head=(*without("CSeq"), f"CSeq: {cseq}")))
    assert error.header == "CSeq"
    assert error.request is not None


@pytest.mark.parametrize("length", ["-1", "4", "", "x", "0x1", "٣", "1 2", "1,1", "9" * 5000, "99999999999"])
def test_bad_content_length(length: str) -> None:
    error = refused(raw(f"Content-Length: {length}", body=b"abc"))
    assert (error.reason, error.header) == ("content-length", "Content-Length")
    assert error.request is not None


@pytest.mark.parametrize("line", ["no colon", ": x", "Via", "B\x00d: x", "Bäd: x", "a b: x", "x" * 300 + ": y"])
def test_bad_header_lines(line: str) -> None:
    assert refused(raw(line)).reason == "header"


@pytest.mark.parametrize("part", ["a\rb", "a\nb", "a\n\rb", "\r"])
def test_half_line_ends(part: str) -> None:
    error = refused(raw(f"Subject: {part}"))
    assert (error.reason, error.request) == ("line-end", None)


def test_a_fold_needs_a_header_above() -> None:
    assert refused(raw(head=(" folded", *HEAD))).reason == "header"


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", b"\r\n\r\n", b"\x00", b"INVITE", raw()[:-2], raw()[:-1], b"\x00" * 5000]
)
def test_unfinished_messages(data: bytes) -> None:
    assert refused(data).reason in {"truncated", "start-line"}


def test_bounds() -> None:
    for data in (
        raw(body=b"x" * MAX_MESSAGE_BYTES),
        raw("X-A: " + "y" * MAX_HEAD_BYTES),
        raw(*["X-A: y"] * MAX_HEADER_LINES),
        raw(*["Via: SIP/2.0/UDP a"] * 10_000),
        raw(*["X-A: " + "y" * 60] * 1000),
    ):
        error = refused(data)
        assert (error.reason, error.status) == ("too-large", 513)
        assert error.request is not None  # the headers that a 513 needs stood before
        assert len(error.request.vias) <= MAX_SALVAGED_VIAS
    room = MAX_HEADER_LINES - len(HEAD) - 1
    assert len(request(*["X-A: y"] * room).get_all("x-a")) == room


# -- what can still be answered ------------------------------------------------------------------------------------


def test_the_salvaged_request_has_what_a_response_needs() -> None:
    data = raw("Content-Length: x", "Via: SIP/2.0/UDP second", "Subject: y", body=b"abc")
    salvaged = refused(data).request
    assert salvaged is not None
    assert (salvaged.method, salvaged.uri_text, salvaged.size) == ("INVITE", "sip:bob@inria.example", len(data))
    assert [via.host for via in salvaged.vias] == ["192.0.2.10", "second"]
    assert (salvaged.call_id, salvaged.has("subject"), salvaged.body) == ("c1@192.0.2.10", False, b"")


@pytest.mark.parametrize("start", ["INVITE  sip:a  SIP/2.0", "INVITE sip:a SIP/7.0", "INVITE x"])
def test_a_bad_start_line_can_be_answered(start: str) -> None:
    salvaged = refused(raw(start=start)).request
    assert salvaged is not None
    assert salvaged.method == "INVITE"


@pytest.mark.parametrize(
    ("start", "head"),
    [
        ("SIP/2.0 999 x", HEAD),
        ("B@D sip:a SIP/2.0", HEAD),
        ("X" * 65 + " sip:a SIP/2.0", HEAD),
        ("INVITE x", without("To")),
        ("INVITE x", ("Via: broken", *without("Via"))),
        ("INVITE x", (*HEAD, "no colon")),
    ],
)
def test_what_cannot_be_answered(start: str, head: tuple[str, ...]) -> None:
    assert refused(raw(start=start, head=head)).request is None


# -- typed values of bad content -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "replaced"),
    [
        ("Via: SIP/2.0/UDP 192.0.2.15;;,;,,", "Via"),
        ('To: "Mr. J. User <sip:j.user@example.com>', "To"),
        ("From: <sip:a@b", "From"),
        ("Call-ID: a b", "Call-ID"),
        ("Call-ID:", "Call-ID"),
        ("Call-ID: " + "x" * 1025, "Call-ID"),
        ("Max-Forwards: 256", "Max-Forwards"),
        ("Max-Forwards: -1", "Max-Forwards"),
        ("Contact: sip:a@b?Route=x", "Contact"),
        ("Expires: soon", "Expires"),
        ("Route: sip:a@b", "Route"),
        ("Record-Route: <sip:a@b>, x", "Record-Route"),
        ("To: <nonsense>", "To"),
        ("Contact: <sip:a b>", "Contact"),
    ],
)
def test_typed_values_raise_sip_error_with_the_header(line: str, replaced: str) -> None:
    message = request(head=(*without(replaced), line))
    with pytest.raises(SipError) as caught:
        message.check()
    assert caught.value.header == replaced


def test_a_bad_request_uri_is_found_when_it_is_used() -> None:
    message = parse_message(raw(start="INVITE sip:2001:db8::10 SIP/2.0"))
    with pytest.raises(SipError):
        message.check()


# -- editing and building ------------------------------------------------------------------------------------------


def test_untouched_lines_leave_as_they_came() -> None:
    data = raw("s :  folded", "\t subject ", "X-odd  :y", "l:0")
    message = parse_message(data)
    message.prepend("via", "SIP/2.0/UDP edge;branch=z9hG4bK2")
    message.set("max-forwards", "69")
    expected = data.replace(b"Via: ", b"Via: SIP/2.0/UDP edge;branch=z9hG4bK2\r\nVia: ").replace(b": 70", b": 69")
    assert message.encode() == expected


def test_content_length_follows_the_body() -> None:
    message = request("l: 0", "Subject: x")
    message.body = b"12345"
    assert message.encode().endswith(b"Content-Length: 5\r\nSubject: x\r\n\r\n12345")
    message.body = b""
    assert message.encode().endswith(b"Content-Length: 0\r\nSubject: x\r\n\r\n")
    message.set("content-length", "77")
    assert message.encode().endswith(b"Content-Length: 0\r\nSubject: x\r\n\r\n")
    assert request().encode() == raw("Content-Length: 0")


def test_edits_drop_typed_values() -> None:
    message = request("Contact: <sip:a@b>")
    before = (message.via, message.vias, message.contacts, message.cseq, message.to, message.call_id)
    message.replace_first("via", "SIP/2.0/UDP edge;branch=z9hG4bK2")
    message.set("contact", "<sip:c@d>")
    message.set("cseq", "3 INVITE")
    message.set("to", "<sip:x>;tag=t")
    message.set("call-id", "other")
    assert before[0].branch == "z9hG4bK1"
    assert (message.via.branch, message.vias[0].branch) == ("z9hG4bK2", "z9hG4bK2")
    assert (message.contacts[0].uri_text, message.cseq.number, message.to.tag) == ("sip:c@d", 3, "t")
    assert message.call_id == "other"
    assert message.from_ is message.from_


def test_copies_are_independent() -> None:
    message = request("Content-Length: 2", body=b"ab")
    other = message.copy()
    other.add("x-new", "1")
    other.set_uri("sip:other@h")
    other.set("cseq", "9 INVITE")
    other.body = b"c"
    assert (message.has("x-new"), message.uri.host, message.cseq.number, message.body) == (
        False,
        "inria.example",
        2,
        b"ab",
    )
    assert (other.uri.host, other.size) == ("h", message.size)
    assert message.encode() == raw("Content-Length: 2", body=b"ab")
    response = Response(200, "OK")
    assert response.copy().encode() == response.encode() == b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_start_lines_cannot_add_lines() -> None:
    for make in (lambda: Request("A\r\nB", "sip:a"), lambda: Request("A", "sip:a\n"), lambda: Response(200, "x\r\ny")):
        with pytest.raises(SipError):
            make()
    with pytest.raises(SipError):
        Request("A", "sip:a").set_uri("sip:b\r\nX: y")


def test_a_built_message_has_no_size_and_may_lack_headers() -> None:
    message = Request("OPTIONS", "sip:a@b")
    assert message.size == 0
    with pytest.raises(SipError) as caught:
        _ = message.to
    assert (caught.value.reason, caught.value.header) == ("missing-header", "To")


def test_the_shared_part_has_no_start_line() -> None:
    with pytest.raises(NotImplementedError):
        Message().encode()
