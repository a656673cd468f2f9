"""nomad.geoip: countries from a database file, and none without."""

from pathlib import Path

import pytest

from nomad.config import ConfigError
from nomad.geoip import MAX_CACHED, GeoIp, NoCountries
from tests.harness.mmdb import write_mmdb

NETWORKS = {"192.0.2.0/24": "FR", "203.0.113.0/25": "DE", "198.51.100.0/24": "", "2001:db8::/32": "US"}


@pytest.fixture
def countries(tmp_path: Path) -> GeoIp:
    return GeoIp(write_mmdb(tmp_path / "countries.mmdb", NETWORKS))


def test_without_a_file_nothing_is_known() -> None:
    assert NoCountries().of("192.0.2.1") is None


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("192.0.2.1", "FR"),
        ("::ffff:192.0.2.1", "FR"),
        ("203.0.113.127", "DE"),
        ("203.0.113.128", None),
        ("198.51.100.1", None),  # in the file, without a country
        ("2001:db8::5", "US"),
        ("2001:db8::5%eth0", "US"),
        ("2001:db9::5", None),
        ("phone", None),
        ("", None),
    ],
)
def test_where_an_address_is(countries: GeoIp, address: str, country: str | None) -> None:
    assert countries.of(address) == country
    assert countries.of(address) == country  # remembered


def test_what_is_remembered_is_bounded(countries: GeoIp) -> None:
    for number in range(MAX_CACHED + 2):
        countries.of(f"192.0.{number >> 8 & 255}.{number & 255}")
    assert len(countries._known) <= MAX_CACHED
    assert countries.of("192.0.2.9") == "FR"


@pytest.mark.parametrize("size", [0, 8, 100])
def test_a_file_that_is_none_is_named(tmp_path: Path, size: int) -> None:
    path = write_mmdb(tmp_path / "countries.mmdb", NETWORKS)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ConfigError, match=r"geoip: .*countries\.mmdb cannot be used"):
        GeoIp(path)


def test_a_damaged_file_knows_nothing(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "countries.mmdb", NETWORKS)
    data = bytearray(path.read_bytes())
    end = data.index(b"country")
    data[end - 2 : end + 20] = b"\xff" * 22
    path.write_bytes(data)
    assert GeoIp(path).of("192.0.2.1") is None
