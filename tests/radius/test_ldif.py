"""radius.ldif: reading RFC 2849, and following changes of the file."""

# ruff: noqa: ASYNC240 - small files of a test

from __future__ import annotations

from pathlib import Path

import pytest

from radius import ldif
from radius.entries import Names
from radius.errors import ConfigError
from radius.ldif import LdifDirectory, index, parse_ldif
from tests.harness.people import CAROL, SAMPLE, crowd
from tests.harness.people import ldif as write_ldif


def test_folding_comments_base64_and_options() -> None:
    text = (
        "version: 1\n# a comment\n  that goes on\ndn: uid=a,\n ou=people\nuid: a\r\ncn;lang-fr:: QWxpY2U=\n"
        "mail:a@x\n\n\ndn:: dWlkPWI=\nuid: b\n"
    )
    assert list(parse_ldif(text)) == [
        ("uid=a,ou=people", {"uid": [b"a"], "cn": [b"Alice"], "mail": [b"a@x"]}),
        ("uid=b", {"uid": [b"b"]}),
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("uid: a\n", "line 1"),
        ("dn: a\nnonsense\n", "line 2"),
        ("dn: a\nuid:: !!\n", "line 2"),
        ("dn: a\nuid: a\ndn: b\n", "line 3"),
        ("dn: a\nchangetype: delete\n", "line 2"),
        ("dn: a\njpegPhoto:< file:///etc/passwd\n", "line 2"),
    ],
)
def test_errors_name_the_line(text: str, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        list(parse_ldif(text))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "people.ldif"
    path.write_text(write_ldif(SAMPLE))
    return path


async def test_people_are_found_by_login_and_mail(path: Path) -> None:
    directory = LdifDirectory(path)
    assert len(directory) == len(SAMPLE)
    for name in ("carol", "CAROL", CAROL.mail):
        person = await directory.find(name)
        assert person is not None
        assert person.login == "carol"
        assert person.groups == (
            "cn=staff,ou=groups,dc=inria,dc=example",
            "cn=visitors,ou=groups,dc=inria,dc=example",
            "night",
        )
    assert await directory.find("nobody") is None
    assert await directory.ready()
    await directory.close()


def test_groups_come_from_members_too() -> None:
    entries = list(parse_ldif("dn: uid=a\nuid: a\n\ndn: cn=g\ncn: g\nmember: UID=a\n"))
    person = index(entries, Names())["a"]
    assert person is not None
    assert person.groups == ("cn=g",)


def test_a_name_of_two_people_is_nobodys(caplog: pytest.LogCaptureFixture) -> None:
    entries = list(parse_ldif("dn: uid=a\nuid: a\n\ndn: uid=b\nuid: b\nmail: A\n"))
    assert index(entries, Names())["a"] is None
    assert index(entries, Names())["b"] is not None
    assert "more than one" in caplog.text


async def test_changes_are_followed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldif, "LOOK_EVERY_S", -1.0)
    directory = LdifDirectory(path)
    assert await directory.find("u00000") is None
    path.write_text(write_ldif([*SAMPLE, *crowd(1)]))
    assert await directory.find("u00000") is not None
    path.write_text("this is no LDIF")
    assert await directory.find("u00000") is not None, "the people of the last good file stay"
    path.unlink()
    assert await directory.find("u00000") is not None
    replaced = path.with_suffix(".new")
    replaced.write_text(write_ldif(SAMPLE))
    replaced.replace(path)
    assert await directory.find("u00000") is None


@pytest.mark.parametrize("text", [None, "no LDIF"])
def test_an_unreadable_file_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "people.ldif"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"people\.ldif"):
        LdifDirectory(path)
