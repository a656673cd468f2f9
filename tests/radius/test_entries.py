"""radius.entries: what a directory may hold about a person."""

from __future__ import annotations

import pytest

from radius.entries import Names, person_from
from tests.harness.people import BOB

NAMES = Names()


def entry(**values: str | list[str]) -> dict[str, list[bytes]]:
    return {
        name.lower(): [text.encode() for text in (value if isinstance(value, list) else [value])]
        for name, value in values.items()
    }


def test_a_person() -> None:
    person = person_from(
        entry(uid="Alice", mail=["Alice@x.example", "a@x.example"], telephoneNumber="3001", cn="Alice M"),
        NAMES,
        groups=["cn=staff"],
    )
    assert person is not None
    assert person.login == "Alice"
    assert person.logins == {"alice", "alice@x.example", "a@x.example"}
    assert person.mails == ("alice@x.example", "a@x.example")
    assert (person.extension, person.display_name, person.groups) == ("3001", "Alice M", ("cn=staff",))
    assert not person.disabled
    assert person.password is None


def test_the_sip_attributes_win() -> None:
    person = person_from(
        entry(
            uid="a",
            sipPassword="sip",
            userPassword="web",
            sipExtension="1",
            telephoneNumber="2",
            displayName="D",
            cn="C",
        ),
        NAMES,
    )
    assert person is not None
    assert (person.password, person.extension, person.display_name) == ("sip", "1", "D")


@pytest.mark.parametrize(
    ("values", "password", "hashed"),
    [
        (["plain"], "plain", ""),
        (["{SSHA}abc=", "{CLEARTEXT}c"], "c", ""),
        (["{SSHA}abc="], None, "{SSHA}abc="),
        (["{not a scheme"], "{not a scheme", ""),
    ],
)
def test_passwords(values: list[str], password: str | None, hashed: str) -> None:
    person = person_from(entry(uid="a", userPassword=values), NAMES)
    assert person is not None
    assert (person.password, person.password_hash) == (password, hashed)


def test_ha1_values(caplog: pytest.LogCaptureFixture) -> None:
    md5, sha = "0" * 32, "1" * 64
    values = [f"MD5:bob:x.example:{md5.upper()}", f"SHA-256:b:o:b@x:r:{sha}", md5, f"sha-512-256:{sha}"]
    person = person_from(entry(uid="bob", sipDigestHA1=[*values, "MD5:bob:r:tooshort", "X:bob:r:" + md5]), NAMES)
    assert person is not None
    assert person.ha1 == {
        ("MD5", "bob", "x.example"): md5,
        ("SHA-256", "b:o:b@x", "r"): sha,
        ("MD5", "", ""): md5,
        ("SHA-512-256", "", ""): sha,
    }
    assert len(caplog.records) == 2
    assert "tooshort" not in caplog.text


def test_the_sample_people_are_understood() -> None:
    person = person_from(entry(uid="bob", sipDigestHA1=list(BOB.ha1_values())), NAMES)
    assert person is not None
    assert len(person.ha1) == 9


@pytest.mark.parametrize(
    ("values", "disabled"),
    [
        ({"sipDisabled": "TRUE"}, True),
        ({"sipDisabled": "FALSE"}, False),
        ({"pwdAccountLockedTime": "000001010000Z"}, True),
    ],
)
def test_disabled(values: dict[str, str], disabled: bool) -> None:
    person = person_from(entry(uid="a", **values), NAMES)
    assert person is not None
    assert person.disabled is disabled


def test_no_login_no_person() -> None:
    assert person_from(entry(cn="staff"), NAMES) is None


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ([], None),
        (["2"], 2),
        (["0"], 0),
        (["5", "3"], 3),
        (["many"], 0),
        (["-1"], 0),
        (["²"], 0),
        (["9" * 5000], 999_999_999),
        ([""], None),
    ],
)
def test_limits_of_a_person(values: list[str], limit: int | None) -> None:
    person = person_from(entry(uid="a", sipMaxCalls=values, sipAllowClass=["internal", "national"]), NAMES)
    assert person is not None
    assert (person.allow, person.max_calls) == (("internal", "national"), limit)
    assert {"sipAllowClass", "sipMaxCalls"} <= set(NAMES.all())
