import pytest

from nomad.edge.addresses import OwnAddresses
from nomad.edge.routing import Called, called_party
from nomad.sip.errors import Reject
from nomad.sip.uri import Uri

OWN = OwnAddresses(["inria.example"], [("udp", "192.0.2.1", 5060)])


@pytest.mark.parametrize(
    ("uri", "called"),
    [
        ("sip:1000@inria.example", Called(number="1000")),
        ("sip:+33%20139635511@192.0.2.1", Called(number="+33139635511")),
        ("sip:+33-1;ext=5@inria.example;user=phone", Called(number="+331")),
        ("tel:+33-1-3963", Called(number="+3313963")),
        ("sip:First.Last@inria.example", Called(address="first.last@inria.example")),
        ("sip:1234*427@inria.example", Called(number="1234*427")),
    ],
)
def test_whom_a_request_uri_means(uri: str, called: Called) -> None:
    assert called_party(Uri.parse(uri), OWN) == called


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("sip:1000@192.0.2.99:5070", 403),  # the PBX itself
        ("sip:1000@evil.example", 403),
        ("sip:inria.example", 404),
    ],
)
def test_what_is_not_ours_is_refused(uri: str, status: int) -> None:
    with pytest.raises(Reject) as refused:
        called_party(Uri.parse(uri), OWN)
    assert refused.value.status == status
