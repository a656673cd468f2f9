"""The configuration, `nomad.toml`: read it, check it, explain what is wrong. Starts nothing."""

from nomad.config.addresses import Listen, is_loopback, parse_listen, split_host_port
from nomad.config.checks import ALGORITHMS, DISCONNECT_PORT, RADSEC, check
from nomad.config.reading import ConfigError, decode, line_of, load, secret
from nomad.config.restart import needing_restart
from nomad.config.tables import (
    Accounting,
    Admin,
    Attributes,
    Certificate,
    Config,
    DigestRule,
    DirectoryTable,
    Events,
    Guard,
    Media,
    Pbx,
    Radius,
    Sip,
    Store,
    Struct,
)

__all__ = [
    "ALGORITHMS",
    "DISCONNECT_PORT",
    "RADSEC",
    "Accounting",
    "Admin",
    "Attributes",
    "Certificate",
    "Config",
    "ConfigError",
    "DigestRule",
    "DirectoryTable",
    "Events",
    "Guard",
    "Listen",
    "Media",
    "Pbx",
    "Radius",
    "Sip",
    "Store",
    "Struct",
    "check",
    "decode",
    "is_loopback",
    "line_of",
    "load",
    "needing_restart",
    "parse_listen",
    "secret",
    "split_host_port",
]
