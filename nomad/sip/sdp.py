"""What a session description says that a policy asks for (RFC 8866). Reads lines, changes none."""

from __future__ import annotations

SECURE = b"/SAVP"  # RTP/SAVP, RTP/SAVPF (RFC 3711, 5124) and UDP/TLS/RTP/SAVP, .../SAVPF (RFC 5764)


def is_encrypted(body: bytes) -> bool:
    """Whether there are streams, and every one that is not refused (port 0) demands SRTP in its profile.

    Encryption that is offered as an option on a plain profile (RFC 8643) does not count: the answer may decline it.
    """
    secure, plain = _streams(body)
    return secure > 0 and not plain


def has_plain_stream(body: bytes) -> bool:
    """Whether any stream that is not refused does not demand SRTP."""
    return _streams(body)[1] > 0


def _streams(body: bytes) -> tuple[int, int]:
    """How many streams demand SRTP, and how many do not: `m=<media> <port> <proto> <fmt> ...` (RFC 8866 5.14)."""
    secure = plain = 0
    for line in body.split(b"\n"):
        if line.startswith(b"m="):
            fields = line.split()
            if len(fields) > 2 and fields[1] == b"0":
                continue
            if len(fields) > 2 and SECURE in fields[2]:
                secure += 1
            else:
                plain += 1
    return secure, plain
