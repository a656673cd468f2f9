"""radius.ldap against a real slapd, and against servers that hang."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from radius.errors import DirectoryUnavailable
from radius.ldap import Breaker, Cache, LdapDirectory, LdapSettings
from radius.ports import Person
from tests.harness.debian import require
from tests.harness.people import ALICE, CAROL
from tests.harness.pki import Pki
from tests.harness.ports import free_port
from tests.harness.slapd import Slapd

pytestmark = pytest.mark.interop
Open = Callable[[LdapSettings], LdapDirectory]


@pytest.fixture
async def open_directory() -> AsyncIterator[Open]:
    opened: list[LdapDirectory] = []

    def open_one(settings: LdapSettings) -> LdapDirectory:
        opened.append(LdapDirectory(settings))
        return opened[-1]

    yield open_one
    for directory in opened:
        await directory.close()


def settings(slapd: Slapd, *urls: str) -> LdapSettings:
    return LdapSettings(urls or (slapd.url,), slapd.people_base, slapd.bind_dn, slapd.bind_password)


async def test_people_are_found(slapd: Slapd, open_directory: Open) -> None:
    directory = open_directory(settings(slapd))
    for name in ("carol", "Carol", CAROL.mail):
        person = await directory.find(name)
        assert person is not None
        assert (person.login, person.extension, person.password) == ("carol", CAROL.extension, CAROL.password)
        assert len(person.ha1) == 9
        assert "night" in person.groups
    dora = await directory.find("dora")
    assert dora is not None
    assert dora.disabled
    assert await directory.ready()


@pytest.mark.parametrize("name", ["nobody", "*", "car*", "carol)(uid=*", " carol", "carol ", "\x00", "ca\\72ol"])
async def test_only_the_very_name_counts(slapd: Slapd, open_directory: Open, name: str) -> None:
    assert await open_directory(settings(slapd)).find(name) is None


async def test_a_name_of_two_people_is_nobodys(slapd: Slapd, open_directory: Open) -> None:
    slapd.modify(f"dn: {ALICE.dn}\nchangetype: modify\nadd: mail\nmail: both@inria.example\n")
    slapd.modify(f"dn: {CAROL.dn}\nchangetype: modify\nadd: mail\nmail: both@inria.example\n")
    try:
        assert await open_directory(settings(slapd)).find("both@inria.example") is None
    finally:
        for person in (ALICE, CAROL):
            slapd.modify(f"dn: {person.dn}\nchangetype: modify\ndelete: mail\nmail: both@inria.example\n")


async def test_the_cache_and_concurrent_look_ups_save_searches(slapd: Slapd, open_directory: Open) -> None:
    directory = open_directory(settings(slapd))
    people = await asyncio.gather(*(directory.find("carol") for _ in range(20)))
    assert len({id(person) for person in people}) == 1
    await directory.find("carol")
    await directory.find("nobody")
    await directory.find("nobody")
    assert directory.searches == 2


@pytest.mark.parametrize("way", ["ldaps", "starttls"])
async def test_tls_with_the_certificate_checked(slapd: Slapd, open_directory: Open, pki: Pki, way: str) -> None:
    url = slapd.tls_url if way == "ldaps" else slapd.url
    good = replace(settings(slapd, url), start_tls=way == "starttls", ca_file=str(pki.ca))
    assert await open_directory(good).find("alice") is not None
    for wrong in (replace(good, ca_file=""),):
        with pytest.raises(DirectoryUnavailable, match="certificate"):
            await open_directory(wrong).find("alice")


async def test_wrong_password_of_the_service_account(slapd: Slapd, open_directory: Open) -> None:
    with pytest.raises(DirectoryUnavailable, match="refused: invalidCredentials") as caught:
        await open_directory(replace(settings(slapd), bind_password="guess")).find("alice")
    assert "guess" not in str(caught.value)


async def test_wrong_base_is_an_error_and_no_unknown_user(slapd: Slapd, open_directory: Open) -> None:
    with pytest.raises(DirectoryUnavailable, match="result 32"):
        await open_directory(replace(settings(slapd), base="dc=elsewhere")).find("alice")


async def test_failover_to_the_next_url(slapd: Slapd, open_directory: Open) -> None:
    directory = open_directory(settings(slapd, f"ldap://127.0.0.1:{free_port()}", slapd.url))
    assert await directory.find("alice") is not None


@pytest.fixture
def hanging() -> Iterator[socket.socket]:
    """Accepts connections and says nothing."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    yield sock
    sock.close()


async def test_a_directory_that_hangs_in_bind(hanging: socket.socket, open_directory: Open) -> None:
    url = f"ldap://127.0.0.1:{hanging.getsockname()[1]}"
    directory = open_directory(LdapSettings((url,), "dc=x", "cn=x", "x", timeout_s=0.2, failures=2, rest_s=30.0))
    loop = asyncio.get_running_loop()
    started = loop.time()
    results = await asyncio.gather(*(directory.find(f"u{n}") for n in range(50)), return_exceptions=True)
    assert all(isinstance(result, DirectoryUnavailable) for result in results)
    with pytest.raises(DirectoryUnavailable, match="timed out"):
        await directory.find("later")
    assert loop.time() - started < 0.6, "nobody waits longer than the timeout, and then the breaker is open"
    assert not await directory.ready()


async def test_a_restarted_directory_is_found_again(
    tmp_path: Path, open_directory: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("slapd")
    slapd = Slapd(tmp_path / "slapd")
    directory = open_directory(replace(settings(slapd), cache_s=0.0, failures=1, rest_s=0.0))
    assert await directory.find("alice") is not None
    await asyncio.to_thread(slapd.stop)
    with pytest.raises(DirectoryUnavailable):
        await directory.find("alice")
    assert not await directory.ready()
    await asyncio.to_thread(slapd.start)
    assert await directory.ready()
    assert await directory.find("alice") is not None
    await asyncio.to_thread(slapd.stop)


@pytest.mark.parametrize("way", ["ldap", "ldaps"])
async def test_a_directory_that_falls_silent_and_wakes(
    tmp_path: Path, open_directory: Open, pki: Pki, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    require("slapd")
    slapd = Slapd(tmp_path / "slapd", certificate=pki.issue("silent"), ca=pki.ca)
    made = replace(settings(slapd), cache_s=0.0, negative_cache_s=0.0, timeout_s=1.0, failures=99)
    if way == "ldaps":
        made = replace(made, urls=(slapd.tls_url,), ca_file=str(pki.ca))
    directory = open_directory(made)
    assert await directory.find("alice") is not None
    await asyncio.to_thread(slapd.pause)
    results = await asyncio.gather(*(directory.find(f"u{number}") for number in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {DirectoryUnavailable}
    slapd.resume()
    for _ in range(3):  # the connections that were silent are not trusted any more
        assert await directory.find("alice") is not None
    await asyncio.to_thread(slapd.stop)


async def test_many_look_ups_at_once_open_more_connections(slapd: Slapd, open_directory: Open) -> None:
    directory = open_directory(
        replace(settings(slapd), cache_s=0.0, negative_cache_s=0.0, connections=3, timeout_s=5.0)
    )
    most = 0
    for _ in range(100):  # connections open beside the searches, one at a time
        names = ["alice", *(f"u{number}" for number in range(300))]
        people = await asyncio.gather(*(directory.find(name) for name in names))
        assert [person.login for person in people if person is not None] == ["alice"]
        if most == 3:  # this round was the first with all three: no fourth comes
            break
        most = len(directory._lines._open)
    assert len(directory._lines._open) == 3
    assert [line.in_flight for line in directory._lines._open] == [0, 0, 0]


def test_cache_forgets() -> None:
    cache = Cache(10.0, 2.0, limit=2)
    alice = Person("alice")
    cache.put("alice", alice, 0.0)
    cache.put("nobody", None, 0.0)
    assert cache.get("alice", 9.9) == (alice,)
    assert cache.get("alice", 10.0) is None
    assert cache.get("nobody", 1.9) == (None,)
    assert cache.get("nobody", 2.0) is None
    cache.put("third", None, 0.0)
    assert cache.get("alice", 0.0) is None
    cache.clear()
    assert cache.get("third", 0.0) is None
    Cache(0.0, 0.0).put("a", alice, 0.0)


def test_breaker() -> None:
    breaker = Breaker(2, 1.0)
    assert not breaker.failed("why", 0.0)
    assert breaker.admit(0.0)
    assert breaker.failed("why", 0.0)
    assert not breaker.admit(0.9)
    assert breaker.admit(1.0)
    assert not breaker.admit(1.5), "one at a time"
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.admit(1.5)
