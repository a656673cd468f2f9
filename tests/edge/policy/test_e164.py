"""nomad.edge.policy.e164: one form of each number, and the short cut changes nothing."""

import random

import phonenumbers
import pytest

from nomad.edge.policy.e164 import canonical, national


@pytest.mark.parametrize(
    ("number", "form"),
    [
        ("+33899123456", "+33899123456"),
        ("+330899123456", "+33899123456"),
        ("+3300899123456", "+33899123456"),
        ("+33000000899123456", "+33899123456"),
        ("+4401234567890", "+441234567890"),
        ("+390612345678", "+390612345678"),  # the 0 of Italy belongs to the number
        ("+112125551234", "+12125551234"),
        ("+999123", "+999123"),  # no country
        ("+", "+"),
        ("+0", "+0"),
        ("+1", "+1"),
    ],
)
def test_one_form(number: str, form: str) -> None:
    assert canonical(number) == form


@pytest.mark.parametrize(
    ("digits", "country", "form"),
    [
        ("912345678", "ES", "+34912345678"),
        ("0612345678", "IT", "+390612345678"),
        ("1", "ES", "1"),
        ("123", "ES", "123"),
    ],
)
def test_numbers_without_prefix(digits: str, country: str, form: str) -> None:
    assert national(digits, country) == form


def test_the_short_cut_gives_what_the_library_gives() -> None:
    chance = random.Random(7)
    codes = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
    for _ in range(4000):
        digits = "".join(chance.choice("0123456789") for _ in range(chance.randint(0, 14)))
        number = f"+{chance.choice(codes)}{digits}"
        form = canonical(number)
        assert form == canonical(form), number
        try:
            parsed = phonenumbers.parse(number, None)
        except phonenumbers.NumberParseException:
            assert form == number
            continue
        once = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
        assert form == once or form == canonical(once), number
