"""E.164 without national prefixes after the country code, which some carriers drop and others dial: "+33 (0)899 ...".

The knowledge is the library's; it is asked only for numbers that begin with what their country may dial in front.
"""

from __future__ import annotations

import functools
import re

import phonenumbers

MAX_DIGITS = 15  # ITU-T E.164 6
E164 = phonenumbers.PhoneNumberFormat.E164


def canonical(number: str) -> str:
    """The one form of a number that begins with "+"; what is no number of any country stays as it is."""
    for _ in range(MAX_DIGITS):  # somebody who tries what passes writes the national prefix more than once
        if not _may_hold_prefix(number):
            return number
        shorter = _parsed(number)
        if shorter == number:
            return number
        number = shorter
    return number


def is_e164(number: str) -> bool:
    """Whether a number that begins with "+" can be one of any country: none has so many digits, or begins with 0."""
    return number[1:2] != "0" and len(number) <= MAX_DIGITS + 1 and number[1:].isdecimal()


def national(digits: str, country: str) -> str:
    """A number dialled without any prefix, where that is usual; as it is when the country has no such number."""
    try:
        parsed = phonenumbers.parse(digits, country)
    except phonenumbers.NumberParseException:
        return digits
    return phonenumbers.format_number(parsed, E164) if phonenumbers.is_possible_number(parsed) else digits


def _parsed(number: str) -> str:
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, E164)


def _may_hold_prefix(number: str) -> bool:
    for length in (2, 3, 4):  # country codes have up to three digits, and none is the beginning of another
        code = number[1:length]
        if code.isdigit() and int(code) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            prefix = _prefix(int(code))
            return prefix is not None and prefix.match(number, length) is not None
    return False


@functools.cache
def _prefix(code: int) -> re.Pattern[str] | None:
    """What may stand before national numbers of a country code, None when nothing."""
    region = phonenumbers.region_code_for_country_code(code)
    metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    text = metadata.national_prefix_for_parsing if metadata else None
    return re.compile(text) if text else None
