"""Hypothesis strategies: bytes that look enough like SIP to reach the far corners of the parser."""

from hypothesis import strategies as st

NAMES = [
    *(
        "Via",
        "v",
        "From",
        "f",
        "To",
        "t",
        "Call-ID",
        "i",
        "CSeq",
        "Contact",
        "m",
        "Max-Forwards",
        "Content-Length",
        "l",
    ),
    *("Expires", "Route", "Record-Route", "Authorization", "WWW-Authenticate", "Content-Type", "c", "Supported", "k"),
    *("X-Odd", "via ", "VIA\t", "Subject", "s", "", "B@d"),
]

VALUES = [
    *(
        "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport",
        "SIP / 2.0 / TCP [2001:db8::1]",
        "SIP/2.0/UDP a, SIP/2.0/UDP b",
    ),
    *(
        '"A \\" B" <sip:a@b;lr>;tag=1',
        "<sip:a%40@[::1]:5061;transport=tcp?x=y>",
        "sip:a@b;tag=2",
        "*",
        "tel:+1-2;ext=3",
    ),
    *("1 INVITE", "2147483648 INVITE", "70", "0", "-1", "9" * 30, "application/sdp", "c1@h", "0.5", "٣", "\udcff"),
    'Digest username="a", realm="r", nonce="n", uri="sip:h", response="0", nc=00000001, qop=auth',
]

PIECES = [
    *(
        ",",
        ";",
        '"',
        "\\",
        "<",
        ">",
        "=",
        "@",
        ":",
        "/",
        "?",
        "[",
        "]",
        "%",
        "%41",
        "*",
        " ",
        "\t",
        "\r\n ",
        "\r\n",
        "\r",
    ),
    *(
        "\n",
        "\x00",
        "\x7f",
        "é",
        "\u2028",
        "\x85",
        "\udc80",
        "sip:",
        "tel:",
        "SIP/2.0",
        "tag",
        "branch",
        "self",
        "a",
        "0",
    ),
]

START_LINES = [
    *("INVITE sip:bob@h SIP/2.0", "REGISTER sip:h SIP/2.0", "ACK sip:h SIP/2.0", "X sip:h SIP/7.0", "A  b SIP/2.0"),
    *("SIP/2.0 200 OK", "SIP/2.0 100 ", "SIP/2.0 9999 x", "sip/2.0 200 OK", "", "GET / HTTP/1.1"),
]

soup = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
value = st.one_of(st.sampled_from(VALUES), soup, st.tuples(st.sampled_from(VALUES), soup).map("".join))
line = st.tuples(st.sampled_from(NAMES), st.sampled_from([":", ": ", " : ", ":\r\n ", ""]), value).map("".join)

_GOOD = [
    *("Via: SIP/2.0/UDP h;branch=z9hG4bK1", "From: <sip:a@b>;tag=1", "To: <sip:c@d>", "Call-ID: x"),
    "CSeq: 1 INVITE",
]


def _wire(parts: tuple[str, list[str], str]) -> bytes:
    start, lines, body = parts
    return ("\r\n".join([start, *lines]) + "\r\n\r\n" + body).encode("utf-8", "surrogateescape")


def _with_good(lines: list[str]) -> st.SearchStrategy[list[str]]:
    return st.permutations(_GOOD + lines)


header = st.lists(line, max_size=6)
wild = st.tuples(st.sampled_from(START_LINES), header, soup).map(_wire)
near = st.tuples(st.sampled_from(START_LINES[:6]), header.flatmap(_with_good), soup).map(_wire)
message = st.one_of(wild, near, st.binary(max_size=200))

_FRAMED = "INVITE sip:a SIP/2.0\r\nl: {}\r\nX-Odd: {}\r\n\r\n{}"
framed = st.tuples(st.text("\r\nab:", max_size=9), st.text("ab: ;", max_size=9)).map(
    lambda parts: _FRAMED.format(len(parts[0]), parts[1], parts[0]).encode()
)
stream = st.lists(
    st.one_of(framed, st.sampled_from([b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"x", b"l: 1\r\n\r\n"]), wild), max_size=8
).map(b"".join)
