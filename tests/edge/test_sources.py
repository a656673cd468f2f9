import pytest

from nomad.edge.sources import key_text, parse_key, source_key


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_keys_and_their_texts(address: str, text: str) -> None:
    key = source_key(address)
    assert key_text(key) == text
    assert parse_key(address) == parse_key(text) == parse_key(f" {text} ") == key


def test_a_mapped_address_is_the_ipv4_address() -> None:
    """People may write it; no socket of ours gives one."""
    assert parse_key("::ffff:198.51.100.7") == parse_key("198.51.100.7") == "198.51.100.7"


def test_neighbours_share_a_key_and_others_do_not() -> None:
    assert source_key("2001:db8:1:2::1") == source_key("2001:db8:1:2:ffff::1")
    assert source_key("2001:db8:1:2::1") != source_key("2001:db8:1:3::1")


@pytest.mark.parametrize("text", ["", "nonsense", "1.2.3", "2001:db8::/64/64x::"])
def test_what_is_no_address_has_no_key(text: str) -> None:
    assert parse_key(text) in ("", parse_key("2001:db8::"))
