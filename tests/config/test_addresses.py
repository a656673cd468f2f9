from __future__ import annotations

import pytest

from nomad.config import is_loopback, parse_listen, split_host_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h:1", ("h", 1)),
        ("h", ("h", 9)),
        ("[::1]:5", ("::1", 5)),
        ("[::1]", ("::1", 9)),
        ("1.2.3.4:0", ("1.2.3.4", 0)),
    ],
)
def test_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text, 9) == expected


@pytest.mark.parametrize("text", ["", ":5", "::1", "h:", "h:x", "h:65536", "a b", "[::1", "h:１"])
def test_host_and_port_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        split_host_port(text, 9)


def test_listen_has_default_ports() -> None:
    assert [parse_listen(f"{t}:h").port for t in ("udp", "tcp", "tls", "ws", "wss")] == [5060, 5060, 5061, 5062, 5063]


def test_what_is_loopback() -> None:
    assert is_loopback("127.0.0.9")
    assert is_loopback("::1")
    assert not is_loopback("192.0.2.1")
    assert not is_loopback("localhost"), "a name may mean another host tomorrow"
