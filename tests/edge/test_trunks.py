import pytest

from nomad.config import Pbx
from nomad.edge.trunks import Trunks, make_trunk
from nomad.sip.events import Flow


def flow(host: str, port: int) -> Flow:
    return Flow("udp", ("192.0.2.1", 5060), (host, port))


@pytest.mark.parametrize(
    ("trusted", "host", "port", "known"),
    [
        ((), "10.0.0.1", 5070, True),  # by default the address and port of the URI
        ((), "10.0.0.1", 40000, False),
        ((), "10.0.0.2", 5070, False),
        (("10.0.0.1",), "10.0.0.1", 40000, True),
        (("10.0.0.1:5070",), "10.0.0.1", 40000, False),
        (("10.0.0.1:5070",), "10.0.0.1", 5070, True),
        (("10.1.0.0/16",), "10.1.7.8", 9, True),
        (("10.1.0.0/16",), "10.0.0.1", 5070, False),
        (("2001:db8::1",), "2001:db8::1", 5070, True),
        (("[2001:db8::1]:5070",), "2001:db8::1", 5071, False),
    ],
)
def test_who_is_the_pbx(trusted: tuple[str, ...], host: str, port: int, known: bool) -> None:
    pbx = Pbx(name="a", uri="sip:10.0.0.1:5070", trusted=trusted)
    trunks = Trunks([make_trunk(pbx, places=[("10.0.0.1", 5070)])])
    for _ in range(2):  # the second answer comes from memory
        assert (trunks.of(flow(host, port)) is not None) is known


def test_which_addresses_a_pbx_is_known_to_have() -> None:
    pbx = Pbx(name="a", uri="sip:pbx.example", trusted=("10.0.0.2", "10.0.0.3:5070", "10.1.0.0/16", "2001:db8::1"))
    trunk = make_trunk(pbx, places=[("10.0.0.1", 5060)])
    assert trunk.addresses == {"10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1"}


def test_a_number_goes_to_the_pbx_that_has_it() -> None:
    first = make_trunk(Pbx(name="first", uri="sip:10.0.0.1", extensions="1[0-9]{3}"), places=[])
    second = make_trunk(Pbx(name="second", uri="sip:10.0.0.2", extensions="2[0-9]{3}"), places=[])
    trunks = Trunks([first, second])
    assert trunks.for_number("2000").name == "second"
    assert trunks.for_number("1000").name == "first"
    assert trunks.for_number("0139635511").name == "first"
