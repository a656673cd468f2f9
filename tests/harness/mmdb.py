"""Writes a small MaxMind database of countries (format 2.0), so that the real reader has a real file to read."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path

MARKER = b"\xab\xcd\xefMaxMind.com"
SEPARATOR = bytes(16)
STRING, UINT16, UINT32, MAP, ARRAY = 2, 5, 6, 7, 11
Value = str | int | list["Value"] | dict[str, "Value"]


def write_mmdb(path: Path, networks: Mapping[str, str]) -> Path:
    """A database of networks and the countries (ISO 3166) that they are in."""
    data = b""
    offsets: dict[str, int] = {}
    for code in dict.fromkeys(networks.values()):
        offsets[code] = len(data)
        data += _encode({"country": {"iso_code": code}} if code else {"continent": {"code": "EU"}})
    tree: list[list[int | tuple[str] | None]] = [[None, None]]
    for text, code in networks.items():
        _insert(tree, *_bits(text), code)
    count = len(tree)
    nodes = b""
    for node in tree:
        for record in node:
            if record is None:
                value = count
            elif isinstance(record, tuple):
                value = count + len(SEPARATOR) + offsets[record[0]]
            else:
                value = record
            nodes += value.to_bytes(3, "big")
    path.write_bytes(nodes + SEPARATOR + data + MARKER + _encode(_metadata(count)))
    return path


def _bits(text: str) -> tuple[int, int]:
    """A network as IPv6 bits and their number; IPv4 stands under ::/96."""
    network = ipaddress.ip_network(text)
    return int(network.network_address), network.prefixlen + (96 if network.version == 4 else 0)


def _insert(tree: list[list[int | tuple[str] | None]], bits: int, length: int, code: str) -> None:
    node = 0
    for place in range(length):
        side = bits >> (127 - place) & 1
        if place == length - 1:
            tree[node][side] = (code,)
            return
        following = tree[node][side]
        if not isinstance(following, int):
            tree.append([None, None])
            following = tree[node][side] = len(tree) - 1
        node = following


def _metadata(count: int) -> Value:
    return {
        "node_count": count,
        "record_size": 24,
        "ip_version": 6,
        "database_type": "Test-Country",
        "languages": ["en"],
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": 1_700_000_000,
        "description": {"en": "a test"},
    }


def _encode(value: Value) -> bytes:
    if isinstance(value, str):
        data = value.encode()
        return _control(STRING, len(data)) + data
    if isinstance(value, int):
        data = value.to_bytes((value.bit_length() + 7) // 8, "big")
        return _control(UINT16 if value < 1 << 16 else UINT32, len(data)) + data
    if isinstance(value, list):
        return _control(ARRAY, len(value)) + b"".join(map(_encode, value))
    return _control(MAP, len(value)) + b"".join(_encode(key) + _encode(each) for key, each in value.items())


def _control(kind: int, size: int) -> bytes:
    if kind > 7:
        return bytes([size, kind - 7])
    return bytes([kind << 5 | size])
