"""Log lines: one per record, escaped, without secrets."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from nomad import log


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.unraisablehook
    yield
    sys.unraisablehook = hook
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(style: log.Format, level: int = logging.INFO) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    log.setup(style, level=level, stream=stream)
    return logging.getLogger("nomad.test"), stream


def test_an_event_is_one_line_of_keys_and_values() -> None:
    logger, stream = lines("text")
    log.event(logger, "call", callid="a@b", ms=1.25, user="", verdict="busy here", peer=None)
    text = stream.getvalue()
    assert text.endswith('INFO nomad.test call callid=a@b ms=1.25 verdict="busy here"\n')
    assert text[4] == "-"
    assert text[19] == "."


def test_an_event_as_json() -> None:
    logger, stream = lines("json")
    log.event(logger, "call", level=logging.WARNING, callid="a@b", ms=3, event="odd", raw=b"\xff")
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "WARNING",
        "logger": "nomad.test",
        "event": "call",
        "callid": "a@b",
        "ms": 3,
        "event_": "odd",
        "raw": "\\xff",
    }


def test_setup_replaces_what_was_there() -> None:
    lines("text")
    logger, stream = lines("text")
    log.event(logger, "once")
    assert stream.getvalue().count("\n") == 1


def test_a_disabled_event_costs_no_formatting() -> None:
    class Bomb:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    logger, stream = lines("text")
    log.event(logger, "detail", level=logging.DEBUG, value=Bomb())
    assert stream.getvalue() == ""


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize(
    "evil",
    [
        "a\r\nINFO forged",
        "\x1b[31mred",
        "x\u2028y",
        "\u202etxt",
        "\x00",
        "\x9b2J",
        b"\xff\n".decode("utf-8", "surrogateescape"),
    ],
)
def test_peer_text_cannot_break_a_line(style: log.Format, evil: str) -> None:
    logger, stream = lines(style)
    log.event(logger, "malformed", text=evil)
    logger.warning("bad %s", evil)
    written = stream.getvalue()
    assert written.count("\n") == 2
    assert not any(character < " " or character in "\u2028\u202e\x9b" for character in written.replace("\n", ""))
    written.encode("utf-8")


def test_an_undecodable_byte_is_shown_as_the_byte_it_was() -> None:
    assert log.escape(b"a\xffb".decode("utf-8", "surrogateescape")) == "a\\xffb"


def test_long_text_is_cut() -> None:
    assert log.escape("x" * 50, limit=10) == "x" * 10 + "[40 more]"


@pytest.mark.parametrize("style", ["text", "json"])
def test_secrets_are_not_written(style: log.Format) -> None:
    logger, stream = lines(style)
    log.event(logger, "auth", password="hunter2", nonce="hunter2", header='Digest username="bob", response="hunter2"')
    logger.info('Digest username="bob", nonce="hunter2", cnonce=hunter2, uri="sip:x"')
    log.event(logger, "sdp", line="a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:hunter2")
    assert "hunter2" not in stream.getvalue()
    assert "bob" in stream.getvalue()


def test_a_traceback_stays_on_its_line() -> None:
    logger, stream = lines("text")
    try:
        raise ValueError("no\nway")
    except ValueError:
        logger.exception("failed")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "Traceback" in text
    assert "no\\nway" in text


def test_a_traceback_in_json() -> None:
    logger, stream = lines("json")
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("failed")
    assert "ValueError" in json.loads(stream.getvalue())["exc"]


def test_a_wrong_format_string_does_not_lose_the_line() -> None:
    logger, stream = lines("text")
    logger.info("%d and %d", 1)
    assert "%d and %d (1,)" in stream.getvalue()


def test_a_flood_of_one_kind_is_logged_in_part_and_others_are_not_the_worse() -> None:
    budget = log.Budget()
    assert [budget.take("a", 0.0) for _ in range(30)] == [0] * 20 + [None] * 10
    assert budget.take("b", 0.0) == 0
    assert [budget.take("a", 0.2001), budget.take("a", 0.2001)] == [10, None]
    assert [budget.take("a", 100.0) for _ in range(21)] == [1] + [0] * 19 + [None]


def test_what_cannot_be_raised_is_one_line(caplog: pytest.LogCaptureFixture, errors_expected: None) -> None:
    def found(what: object, error: BaseException | None, kind: type[BaseException] = ValueError) -> SimpleNamespace:
        return SimpleNamespace(object=what, exc_value=error, exc_type=kind, exc_traceback=None, err_msg=None)

    log.unraisable(found(b"\xff", UnicodeDecodeError("ascii", b"\xff", 0, 1, "no")))
    assert caplog.records == []
    log.unraisable(found("x\n", ValueError("y\nz")))
    log.unraisable(found(None, None, KeyError))
    assert [record.getMessage() for record in caplog.records] == [
        "Exception ignored in 'x\\n'",
        "Exception ignored in None",
    ]
    assert "\n" not in log.TextFormatter().format(caplog.records[0])
