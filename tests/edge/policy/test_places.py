"""nomad.edge.policy.places: which network an address is in."""

import ipaddress

import pytest

from nomad.edge.policy.places import Networks, address_of

NETWORKS = Networks([ipaddress.ip_network(text) for text in ("192.0.2.0/24", "2001:db8::/32", "10.0.0.7/32")])


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.255", "192.0.2.0/24"),
        ("192.0.3.0", ""),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),  # as a socket for both families shows it
        ("2001:db8:1::1%eth0", "2001:db8::/32"),
        ("2001:db9::1", ""),
        ("10.0.0.7", "10.0.0.7/32"),
        ("::c000:201", ""),
    ],
)
def test_networks(text: str, network: str) -> None:
    address = address_of(text)
    assert address is not None
    assert NETWORKS.find(address) == network


@pytest.mark.parametrize(("text", "is_global"), [("192.168.1.1", False), ("::1", False), ("8.8.8.8", True)])
def test_what_is_on_the_internet(text: str, is_global: bool) -> None:
    address = address_of(text)
    assert address is not None
    assert address.is_global is is_global


def test_what_is_no_address() -> None:
    assert address_of("phone.example") is None
    assert not Networks([])
