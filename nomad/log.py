"""Log lines: one per record, as key=value or JSON, safe to read on a terminal.

Text of peers can neither start a line of its own nor colour a terminal, and values of secret fields are never written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from functools import lru_cache
from typing import IO, Literal

Format = Literal["text", "json"]

MAX_VALUE_CHARS = 2_000
MAX_TRACEBACK_CHARS = 20_000
LINES_PER_S = 5.0  # of one kind of what strangers send, on the average
LINES_AT_ONCE = 20.0

SECRET_FIELDS = frozenset(
    {"password", "secret", "ha1", "nonce", "cnonce", "response", "token", "cookie", "crypto"}
    | {"authorization", "proxy_authorization", "credentials"}
)
HIDDEN = "***"

# Control characters, line and paragraph separators, marks that turn the writing direction, and the lone surrogates
# that stand for bytes which were not UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_NEEDS_QUOTES = re.compile(r'[\s"=\\]')
_SECRETS = re.compile(
    r'(?i:\b(password|passwd|secret|ha1|cnonce|nonce|response)(\s?=\s?)("[^"]{0,500}"|[^\s",;]{1,500}))'
    r"|(?i:\b(a=crypto:)[^\r\n]{1,500})"
)


def setup(style: Format = "text", *, level: int | str = logging.INFO, stream: IO[str] | None = None) -> logging.Handler:
    """Send every record of the process to one stream and replace what was set up before."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    sys.unraisablehook = unraisable
    # What no line of ours shows need not be looked up for each
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    return handler


def unraisable(found: sys.UnraisableHookArgs) -> None:
    """Log what Python had nobody to raise to; it would write lines of its own.

    Except for a server name in a TLS hello that is no ASCII: `ssl` reads it before we are asked, and the handshake that
    fails by it is refused like others.
    """
    if isinstance(found.object, bytes) and isinstance(found.exc_value, UnicodeDecodeError):
        return
    error = found.exc_value if found.exc_value is not None else found.exc_type()
    logging.getLogger(__name__).error("%s %r", found.err_msg or "Exception ignored in", found.object, exc_info=error)


def event(logger: logging.Logger, name: str, /, *, level: int = logging.INFO, **fields: object) -> None:
    """Log that something happened; the field names are ours, the values may be a peer's."""
    if logger.isEnabledFor(level):
        record = logger.makeRecord(logger.name, level, "", 0, name, (), None)
        record.fields = fields
        logger.handle(record)


class Budget:
    """Lines about what strangers send, by kind: so many a second on the average. A flood must not fill the disk."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[float]] = {}  # kind -> lines left, time of the last look, lines left out

    def take(self, kind: str, now: float) -> int | None:
        """How many of a kind were left out since its last line, None when this one is left out too.

        The kind is a fixed word of ours.
        """
        state = self._kinds.get(kind)
        if state is None:
            state = self._kinds[kind] = [LINES_AT_ONCE, now, 0.0]
        state[0] = min(LINES_AT_ONCE, state[0] + (now - state[1]) * LINES_PER_S)
        state[1] = now
        if state[0] < 1.0:
            state[2] += 1.0
            return None
        state[0] -= 1.0
        left_out, state[2] = int(state[2]), 0.0
        return left_out


def escape(text: str, limit: int = MAX_VALUE_CHARS) -> str:
    """The text with everything that could break a line or a terminal made visible, cut at `limit` characters."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    if len(text) > limit:
        text = f"{text[:limit]}[{len(text) - limit} more]"
    return _UNSAFE.sub(_escape_one, text)


def redact(text: str) -> str:
    """The text without the values of digest parameters, passwords and SDP keys that it may quote."""
    if "=" not in text:
        return text
    return _SECRETS.sub(_hide_one, text)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO nomad.edge call callid=x user=y`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line for a record."""
        parts = [_timestamp(record.created), record.levelname, record.name, escape(redact(_message(record)))]
        parts += [f"{key}={_quoted(value)}" for key, value in _fields(record).items() if value not in (None, "")]
        if trace := _traceback(self, record):
            parts.append(f"exc={_quoted(trace)}")
        return " ".join(parts)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line for a record."""
        line: dict[str, object] = {
            "time": _timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": escape(redact(_message(record))),
        }
        for key, value in _fields(record).items():
            line[key if key not in line else f"{key}_"] = value
        if trace := _traceback(self, record):
            line["exc"] = trace
        return json.dumps(line, ensure_ascii=True, separators=(",", ":"))


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _timestamp(created: float) -> str:
    seconds = int(created)
    return f"{_second(seconds)}.{int((created - seconds) * 1000):03d}Z"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # a wrong format string must not cost the line
        return f"{record.msg} {record.args!r}"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return {key: HIDDEN if key.lower() in SECRET_FIELDS else _plain(value) for key, value in fields.items()}


def _plain(value: object) -> object:
    """Numbers and None as they are, anything else as safe text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6)
    text = (
        value
        if isinstance(value, str)
        else value.decode("utf-8", "surrogateescape")
        if isinstance(value, bytes)
        else str(value)
    )
    return escape(redact(text))


def _quoted(value: object) -> str:
    text = str(value)
    if not text or _NEEDS_QUOTES.search(text):
        return '"' + text.replace('"', "'") + '"'
    return text


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info:
        return ""
    return escape(redact(formatter.formatException(record.exc_info)), MAX_TRACEBACK_CHARS)


def _escape_one(match: re.Match[str]) -> str:
    code = ord(match.group())
    if match.group() == "\n":
        return "\\n"
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: show the byte it was
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _hide_one(match: re.Match[str]) -> str:
    if match.group(4):
        return f"{match.group(4)}{HIDDEN}"
    return f"{match.group(1)}{match.group(2)}{HIDDEN}"
