"""nomad.geoip: countries from a database file, and none without."""

from pathlib import Path

import pytest

from nomad.config import ConfigError
from nomad.geoip import GeoIp, NoCountries


def test_without_a_file_nothing_is_known() -> None:
    assert NoCountries().of("192.0.2.1") is None


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "countries.mmdb"
    path.write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match=r"geoip: .*countries\.mmdb cannot be used"):
        GeoIp(path)
