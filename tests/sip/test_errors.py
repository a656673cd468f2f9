"""The two exceptions that remote input may cause."""

from nomad.sip.errors import Reject, SipError


def test_sip_error_says_its_reason_when_it_has_no_text() -> None:
    error = SipError("via")
    assert (error.reason, error.text, error.header, error.status, str(error)) == ("via", "via", "", 400, "via")


def test_sip_error_keeps_what_it_was_told() -> None:
    error = SipError("too-large", "message is too large", header="To", status=513)
    assert (error.text, error.header, error.status) == ("message is too large", "To", 513)


def test_reject_puts_retry_after_behind_the_other_headers() -> None:
    reject = Reject(503, headers=(("Warning", "399 x"),), retry_after=5, rule="load", why="too much")
    assert reject.headers == (("Warning", "399 x"), ("Retry-After", "5"))
    assert (reject.status, reject.reason, reject.rule, reject.why) == (503, "", "load", "too much")


def test_reject_without_retry_after_leaves_the_headers_alone() -> None:
    assert Reject(403, "No").headers == ()


def test_the_phrase_names_the_header_once() -> None:
    assert SipError("number", "number expected", header="Max-Forwards").phrase == "Max-Forwards: number expected"
    assert SipError("cseq", "malformed CSeq number", header="CSeq").phrase == "malformed CSeq number"
    assert SipError("start-line").phrase == "start-line"
