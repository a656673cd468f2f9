import pytest

from nomad.edge.policy.numbers import Entry, NumberClasses, clean

CLASSES = NumberClasses(
    {
        "emergency": ["15", "17", "18", "112"],
        "internal": ["re:[0-9]{4}"],
        "national": ["0", "+33"],
        "international": ["00", "+"],
        "premium": ["089", "+3389", "+882", "+883"],
    }
)


@pytest.mark.parametrize(
    ("dialled", "number"),
    [
        ("1000", "1000"),
        ("+33 1 39.63-55(11)", "+33139635511"),
        ("1234*427", "1234*427"),
        ("first.last", ""),
        ("", ""),
        ("+", ""),
        ("12+34", ""),
        ("1" * 65, ""),
        ("\u0661\u0662", ""),  # digits of another script are no digits here
        ("1000\r\n", ""),
    ],
)
def test_clean(dialled: str, number: str) -> None:
    assert clean(dialled) == number


@pytest.mark.parametrize(
    ("number", "found", "entry"),
    [
        ("112", "emergency", "112"),
        ("15", "emergency", "15"),
        ("1599", "internal", "re:[0-9]{4}"),
        ("15999999999", "", ""),  # an emergency number is no prefix
        ("1000", "internal", "re:[0-9]{4}"),
        ("0139635511", "national", "0"),
        ("0899123456", "premium", "089"),
        ("+33899123456", "premium", "+3389"),
        ("+33139635511", "national", "+33"),
        ("+4930123456", "international", "+"),
        ("004930123456", "international", "00"),
        ("+882123", "premium", "+882"),
        ("999999999", "", ""),
    ],
)
def test_the_longest_match_wins(number: str, found: str, entry: str) -> None:
    assert CLASSES.find(number)[2:] == (found, Entry(entry))
