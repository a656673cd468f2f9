import pytest

from nomad.edge.policy.numbers import Entry, NumberClasses, Numbering, NumberList, clean

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
    assert CLASSES.find(number)[2:4] == (found, Entry(entry))


@pytest.mark.parametrize("outside", ["", "9"])
@pytest.mark.parametrize(
    ("dialled", "number", "dial"),
    [
        ("0612345678", "+33612345678", "0612345678"),
        ("0033612345678", "+33612345678", "0033612345678"),
        ("00330612345678", "+33612345678", "0033612345678"),
        ("004401234567890", "+441234567890", "00441234567890"),
        ("112", "112", "112"),
        ("3002", "3002", "3002"),
    ],
)
def test_the_pbx_dials_the_number_that_was_judged(outside: str, dialled: str, number: str, dial: str) -> None:
    """A PBX that makes "0" of "+33" would make an international call of "+330442079460000"."""
    numbering = Numbering("FR", outside_prefix=outside)
    if len(dialled) > 4:
        dialled, dial = outside + dialled, outside + dial
    assert numbering.forms(dialled) == (number, dial)


def test_a_plus_is_dialled_as_it_was_judged_too() -> None:
    assert Numbering("FR").forms("+330442079460000") == ("+33442079460000", "+33442079460000")
    assert Numbering("US").forms("112125551234") == ("+12125551234", "12125551234")


@pytest.mark.parametrize(
    ("country", "dialled", "number", "dial"),
    [
        ("BR", "0015442079460000", "+442079460000", "0015442079460000"),  # by carrier 15; was judged as American
        ("BR", "00154402079460000", "+442079460000", "0015442079460000"),
        ("BR", "00442079460000", "00442079460000", "00442079460000"),  # by no carrier: no class of outside numbers
        ("KR", "001442079460000", "+442079460000", "001442079460000"),
        ("FI", "990442079460000", "+442079460000", "990442079460000"),
        ("FI", "00442079460000", "+442079460000", "00442079460000"),
        ("AU", "0011442079460000", "+442079460000", "0011442079460000"),
        ("US", "011442079460000", "+442079460000", "011442079460000"),
    ],
)
def test_a_carrier_s_international_prefix_is_one(country: str, dialled: str, number: str, dial: str) -> None:
    assert Numbering(country).forms(dialled) == (number, dial)
    assert Numbering("BR").normalise_prefix("001544") == "+44"
    assert Numbering("BR").normalise_prefix("00") == "+"
    site = Numbering(country, international_prefix="77")
    assert site.forms("77442079460000") == ("+442079460000", "77442079460000")


@pytest.mark.parametrize(
    "dialled",
    [
        "+0033899123456",
        "000899123456",
        "0000899123456",
        "+33*899123456",
        "+33#899123456",
        "+*",
        "+330000000000000000000899123456",
        "0033" + 17 * "0" + "899123456",
        "+3361234567890123",
    ],
)
def test_what_is_no_number_of_any_country_has_no_class(dialled: str) -> None:
    """Carriers and gateways drop what does not belong there, and call the rest."""
    classes = NumberClasses({"world": ["+"], "national": ["0"], "premium": ["089"]}, Numbering("FR"))
    found = classes.find(dialled)
    assert (found.name, found.exists) == ("", False)


def test_a_prefix_of_digits_opens_no_codes() -> None:
    classes = NumberClasses({"national": ["0"], "feature": ["*", "0#"]})
    assert [classes.find(number).name for number in ("0899", "0*899", "0#1", "*72")] == [
        *("national", "", "feature", "feature"),
    ]
    entries = [Entry("0"), Entry("*7")]
    allow, deny = (NumberList(entries, frozenset(), Numbering(), wide=wide) for wide in (False, True))
    code = classes.find("0*899")
    assert (allow.find(code), deny.find(code)) == (None, Entry("0"))
    assert allow.find(classes.find("*72")) == Entry("*7")


@pytest.mark.parametrize("number", ["112", "9112", "118", "0800112112", "+33800112112"])
def test_an_expression_of_emergency_numbers_comes_before_all(number: str) -> None:
    classes = {"internal": ["re:[0-9]{3,10}"], "national": ["0"], "emergency": ["re:11[28]", "re:0800112[0-9]{3}"]}
    assert NumberClasses(classes, Numbering("FR", outside_prefix="9")).find(number).name == "emergency"
