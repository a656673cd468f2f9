from __future__ import annotations

from pathlib import Path

import pytest

from nomad.config import Config, Radius


def test_domains_are_lower_case_and_the_own_one_comes_first() -> None:
    assert Config(domain="Inria.Example", aliases=("SIP.Inria.Example",)).domains == (
        "inria.example",
        "sip.inria.example",
    )


def test_a_relative_file_starts_at_the_folder_of_the_configuration() -> None:
    config = Config(domain="d", folder="/etc/nomad")
    assert config.path("edge.pem") == Path("/etc/nomad/edge.pem")
    assert config.path("/run/edge.pem") == Path("/run/edge.pem")


@pytest.mark.parametrize(("radius", "embedded"), [(Radius(), True), (Radius(auth=("h",)), False)])
def test_without_servers_the_embedded_one_is_meant(radius: Radius, embedded: bool) -> None:
    assert radius.embedded is embedded
