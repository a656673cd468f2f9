"""A configuration that is right, to be spoiled by tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad import config
from nomad.config import Config, ConfigError

GOOD = """
domain = "inria.example"
policy = "policy.toml"

[sip]
listen = ["udp:127.0.0.1:5060"]

[directory]
url = "file:people.ldif"

[[pbx]]
name = "asterisk"
uri = "sip:127.0.0.1:5070"
"""


def load(folder: Path, text: str) -> Config:
    (folder / "policy.toml").write_text("")
    path = folder / "nomad.toml"
    path.write_text(text)
    return config.load(path)


def problems(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as wrong:
        load(folder, text)
    return str(wrong.value)
