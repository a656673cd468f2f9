"""Signatures of scanning tools: User-Agents, and what tools with another User-Agent still write in their probes.

The signatures are data (`scanners.toml`); here they are read and looked for. Pure.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from nomad import config
from nomad.config import ConfigError
from nomad.sip.message import Request

MAX_VALUE_CHARS = 400  # of a header that is looked at
REQUEST_URI = "request-uri"
AGENT = "user-agent"


class Probe(config.Struct, frozen=True):
    """One [[probe]]."""

    name: str
    header: str
    contains: str


class ScannersFile(config.Struct, frozen=True):
    """`scanners.toml`."""

    agents: tuple[str, ...] = ()
    probe: tuple[Probe, ...] = msgspec.field(default_factory=tuple)


class Scanners:
    """Knows scanning tools by what they send."""

    def __init__(self, table: ScannersFile | None = None) -> None:
        table = table or ScannersFile()
        self._agents = tuple(agent.lower() for agent in table.agents)
        by_header: dict[str, list[tuple[str, str]]] = {}
        for probe in table.probe:
            by_header.setdefault(probe.header.lower(), []).append((probe.contains.lower(), probe.name))
        self._probes = tuple(by_header.items())
        self._by_agent = lru_cache(maxsize=1024)(self._find_agent)

    @classmethod
    def parse(cls, text: str, source: str) -> Scanners:
        """Those of a file. Raises `ConfigError` that names it, with line and mend."""
        table = config.decode(text, source, ScannersFile)
        if not all((*table.agents, *(probe.contains for probe in table.probe))):
            raise ConfigError(f"{source}: an empty text is in every message; name what to look for")
        return cls(table)

    def find(self, request: Request) -> str:
        """The signature that a request carries, "" for none."""
        agent = request.get(AGENT)
        if agent is not None and (found := self._by_agent(agent[:MAX_VALUE_CHARS])):
            return found
        if request.has("authorization") or request.has("proxy-authorization"):
            return ""  # judged by its credentials
        for header, texts in self._probes:
            value = request.uri_text if header == REQUEST_URI else request.get(header)
            if value is None:
                continue
            value = value[:MAX_VALUE_CHARS].lower()
            for text, name in texts:
                if text in value:
                    return name
        return ""

    def _find_agent(self, agent: str) -> str:
        agent = agent.lower()
        return next((text for text in self._agents if text in agent), "")
