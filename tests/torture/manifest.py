"""The verdict on each torture message, one row per message, as the text of RFC 4475 and RFC 5118 has it.

`verdict` is what happens here:
accept   parses, every typed header and the Request-URI parse too; what it asks for is for the edge to answer
parse    `parse_message` refuses it with `status`; `answered` says whether that can be sent back
typed    parses, but the header named in `header` is refused when it is used ("" is the Request-URI)
`section` is the RFC's; `why` is its judgement in our words.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """One message and what is right for it."""

    name: str
    section: str
    verdict: str
    why: str
    reason: str = ""
    header: str = ""
    status: int = 400
    answered: bool = True


RFC4475 = [
    Row("wsinv", "3.1.1.1", "accept", "short tortuous INVITE: folds, blanks, compact names, escapes in quotes"),
    Row("intmeth", "3.1.1.2", "accept", "every character that a method, URI, display name, tag and Call-ID may have"),
    Row("esc01", "3.1.1.3", "accept", "escapes in the user part and in URI parameters"),
    Row("escnull", "3.1.1.4", "accept", "escaped NULs in the user part"),
    Row("esc02", "3.1.1.5", "accept", "percent signs that are no escapes: method, header name, display name"),
    Row("lwsdisp", "3.1.1.6", "accept", "no blank between display name and angle bracket"),
    Row("longreq", "3.1.1.7", "accept", "long values, 34 Vias in every spelling"),
    Row("dblreq", "3.1.1.8", "accept", "a second request behind the first in one datagram is dropped"),
    Row("semiuri", "3.1.1.9", "accept", "semicolon inside the user part"),
    Row("transports", "3.1.1.10", "accept", "known and unknown transports in Via"),
    Row("mpart01", "3.1.1.11", "accept", "multipart body with NULs"),
    Row("unreason", "3.1.1.12", "accept", "UTF-8 reason phrase"),
    Row("noreason", "3.1.1.13", "accept", "empty reason phrase"),
    Row("badinv01", "3.1.2.1", "typed", "stray semicolons and commas in Via and Contact: 400", "parameter", "Via"),
    Row("clerr", "3.1.2.2", "parse", "Content-Length beyond the datagram: 400", "content-length", "Content-Length"),
    Row("ncl", "3.1.2.3", "parse", "negative Content-Length: 400", "content-length", "Content-Length"),
    Row("scalar02", "3.1.2.4", "parse", "CSeq beyond 2**31: 400", "cseq", "CSeq"),
    Row("scalarlg", "3.1.2.5", "parse", "CSeq beyond 2**31 in a response: dropped", "cseq", "CSeq", answered=False),
    Row("quotbal", "3.1.2.6", "typed", "display name with an open quote: 400", "address", "To"),
    Row("ltgtruri", "3.1.2.7", "parse", "Request-URI in angle brackets: 400", "start-line"),
    Row("lwsruri", "3.1.2.8", "parse", "blank inside the Request-URI: 400", "start-line"),
    Row("lwsstart", "3.1.2.9", "parse", "several blanks in the request line: 400 is allowed", "start-line"),
    Row("trws", "3.1.2.10", "parse", "blanks at the end of the request line: 400 is allowed", "start-line"),
    Row("escruri", "3.1.2.11", "accept", "headers in the Request-URI: read, ignoring them is allowed"),
    Row("baddate", "3.1.2.12", "accept", "Date that is not in GMT: ignored, for no decision needs it"),
    Row("regbadct", "3.1.2.13", "typed", "Contact with a question mark outside brackets: 400", "address", "Contact"),
    Row("badaspec", "3.1.2.14", "typed", "blanks inside the brackets: 400 is allowed", "uri", "To"),
    Row(
        "baddn",
        "3.1.2.15",
        "parse",
        "comma in a bare display name; the file has no end of header",
        "truncated",
        answered=False,
    ),
    Row("badvers", "3.1.2.16", "parse", "SIP/7.0: 505", "version", status=505),
    Row("mismatch01", "3.1.2.17", "parse", "CSeq has another method: 400", "cseq", "CSeq"),
    Row("mismatch02", "3.1.2.18", "parse", "CSeq has another method than an unknown one: 400", "cseq", "CSeq"),
    Row("bigcode", "3.1.2.19", "parse", "status of ten digits: dropped", "start-line", answered=False),
    Row("badbranch", "3.2.1", "accept", "branch that is the magic cookie only: the transaction layer's matter"),
    Row(
        "insuf",
        "3.3.1",
        "parse",
        "no From, To, Call-ID: a 400 would lack them too",
        "missing-header",
        "From",
        answered=False,
    ),
    Row("unkscm", "3.3.2", "accept", "unknown scheme in the Request-URI: 416 is for the edge"),
    Row("novelsc", "3.3.3", "accept", "known scheme that means nothing here: 416 is for the edge"),
    Row("unksm2", "3.3.4", "accept", "unknown schemes in To, From, Contact"),
    Row("bext01", "3.3.5", "accept", "Require and Proxy-Require of unknown extensions: 420 is for the edge"),
    Row("invut", "3.3.6", "accept", "unknown body type: 415 is for the callee"),
    Row("regaut01", "3.3.7", "accept", "unknown authentication scheme: as good as none"),
    Row("multi01", "3.3.8", "parse", "single headers repeated: 400", "duplicate-header", "Call-ID"),
    Row("mcl01", "3.3.9", "parse", "two Content-Lengths: 400", "duplicate-header", "Content-Length"),
    Row("bcast", "3.3.10", "accept", "response with a broadcast address in its second Via"),
    Row("zeromf", "3.3.11", "accept", "Max-Forwards 0: 483 or an answer is for the edge"),
    Row("cparam01", "3.3.12", "accept", "parameter outside brackets belongs to Contact"),
    Row("cparam02", "3.3.13", "accept", "parameter inside brackets belongs to the URI"),
    Row("regescrt", "3.3.14", "accept", "headers in a Contact URI"),
    Row("sdp01", "3.3.15", "accept", "Accept without SDP: 406 is for the callee"),
    Row("inv2543", "3.4.1", "accept", "RFC 2543: no branch, no Max-Forwards, no Content-Length"),
]

RFC5118 = [
    Row("ipv6-good", "4.1", "accept", "IPv6 references"),
    Row("ipv6-bad", "4.2", "typed", "Request-URI with a bare IPv6 address: 400", "uri", "Request-URI"),
    Row("port-ambiguous", "4.3", "accept", "what stands in the brackets is address, all of it"),
    Row("port-unambiguous", "4.4", "accept", "port behind the bracket"),
    Row("via-received-param-with-delim", "4.5", "accept", "received with brackets"),
    Row("via-received-param-no-delim", "4.5", "accept", "received without brackets"),
    Row("ipv6-in-sdp", "4.6", "accept", "IPv6 in the body"),
    Row("mult-ip-in-header", "4.7", "accept", "IPv4 and IPv6 among the Vias"),
    Row("mult-ip-in-sdp", "4.8", "accept", "IPv4 and IPv6 in the body"),
    Row("ipv4-mapped-ipv6", "4.9", "accept", "IPv4-mapped addresses"),
    Row("ipv6-bug-abnf-3-colons", "4.10", "accept", "three colons as RFC 3261 has them must be tolerated"),
    Row("ipv6-correct-abnf-2-colons", "4.10", "accept", "two colons as they should be"),
]
