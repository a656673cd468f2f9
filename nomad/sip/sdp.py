"""What a session description says that a policy asks for (RFC 8866). Reads lines, changes none."""

from __future__ import annotations

SECURE = b"/SAVP"  # RTP/SAVP, RTP/SAVPF (RFC 3711, 5124) and UDP/TLS/RTP/SAVP, .../SAVPF (RFC 5764)


def is_encrypted(body: bytes) -> bool:
    """Whether there are streams, and every one that is not refused (port 0) demands SRTP in its profile.

    Encryption that is offered as an option on a plain profile (RFC 8643) does not count: the answer may decline it.
    """
    found = False
    for line in body.split(b"\n"):
        if line.startswith(b"m="):
            fields = line.split()  # m=<media> <port> <proto> <fmt> ... (RFC 8866 5.14)
            if len(fields) < 3:
                return False
            if fields[1] == b"0":
                continue
            if SECURE not in fields[2]:
                return False
            found = True
    return found
