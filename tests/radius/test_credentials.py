from __future__ import annotations

import pytest

from radius import credentials
from radius.credentials import Credential, base_login, credentials_in, device_of, make_password, make_values, user_forms
from radius.digest import make_ha1

REALM = "inria.example"


@pytest.mark.parametrize(
    ("login", "base"),
    [
        ("alice+desk", "alice"), ("alice+Desk@inria.example", "alice@inria.example"), ("alice", ""), ("+desk", ""),
        ("alice+", ""), ("alice+a+b", ""), ("alice+a/b", ""), ("alice+" + "x" * 33, ""), ("alice@a+b", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_person_of_a_device(login: str, base: str) -> None:
    assert base_login(login) == base


def test_device_of_a_user_name() -> None:
    assert [device_of(user) for user in ("alice", "a.b@c", "alice+Desk", "alice+desk@x", "x+", "+y", "")] == [
        "", "", "desk", "desk", "", "", "",
    ]  # fmt: skip


def test_forms_of_user_names() -> None:
    logins = ("alice", "alice.martin@inria.example")
    assert user_forms(logins, "", [REALM]) == ("alice", "alice.martin@inria.example", "alice@inria.example")
    assert user_forms(logins, "desk", [REALM, "b.example"]) == (
        "alice+desk",
        "alice+desk@inria.example",
        "alice+desk@b.example",
    )
    assert user_forms(["alice@inria.example"], "", [REALM]) == ("alice@inria.example",)


def test_values_and_what_they_are_of() -> None:
    own = make_values(["alice", "a.m@x"], REALM, "p")
    desk = make_values(["alice+desk"], REALM, "q")
    short = ["0" * 32, "SHA-256:" + "0" * 64]
    assert own[0] == f"MD5:alice:{REALM}:{make_ha1('MD5', 'alice', REALM, 'p')}"
    assert len(own) == 6
    everything = [*own, *desk, *short]
    assert credentials.values_of(everything, "desk") == desk
    assert credentials.values_of(everything, "") == [*own, *short], "no old password stays behind"
    assert credentials.values_of(everything, "sofa") == []
    algorithms = ("MD5", "SHA-256", "SHA-512-256")
    assert credentials_in(everything) == [
        Credential("", "", ("MD5", "SHA-256"), ("",)),
        Credential("", REALM, algorithms, ("alice", "a.m@x")),
        Credential("desk", REALM, algorithms, ("alice+desk",)),
    ]


def test_passwords_can_be_typed() -> None:
    made = make_password(bytes(range(32)))
    assert len(made) == 24
    assert made.count("-") == 4
    assert set(made) <= {*credentials.ALPHABET, "-"}
    assert make_password(bytes(reversed(range(32)))) != made
    with pytest.raises(ValueError, match="20 random bytes"):
        make_password(bytes(19))
