"""Applying a policy: all of it or nothing, and nobody overruns anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from nomad.config import Config, ConfigError
from nomad.policies import FOUND_WHY, Applied, Change, Policies, fingerprint, policy_file, read_policy, write_whole
from nomad.ports import Conflict, PolicyVersion
from nomad.stores.database import Database
from nomad.stores.sql import SqlPolicies


class Refused(Exception):
    """The edge did not take the text up."""


def refuse() -> None:
    raise Refused


def text_of(path: Path) -> str:
    return path.read_text()


def remove(path: Path) -> None:
    path.unlink()


def names_beside(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()}


def edit(path: Path, text: str) -> None:
    path.write_text(text)


def accept() -> None:
    """The edge took it up."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text("# by hand\n")
    return path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlPolicies]:
    database = Database(f"sqlite:///{tmp_path}/nomad.db")
    await database.open()
    yield SqlPolicies(database)
    await database.close()


@pytest.fixture
def policies(store: SqlPolicies, path: Path) -> Policies:
    return Policies(store, path, wall=lambda: 1000.0)


async def test_a_text_comes_into_force_with_who_and_why(policies: Policies, store: SqlPolicies, path: Path) -> None:
    applied = await policies.apply(Change("# by hand\n", by="alice", why="first"), activate=accept)
    assert (applied.version.number, applied.is_new, applied.found) == (1, True, None)
    applied = await policies.apply(Change("# two\n", by="bob", why="more"), activate=accept)
    assert text_of(path) == "# two\n"
    assert applied.version == (await store.history(1))[0]
    assert (applied.version.number, applied.version.by, applied.version.why, applied.version.at) == (
        2,
        "bob",
        "more",
        1000.0,
    )
    assert applied.version.sha == fingerprint("# two\n")


async def test_what_was_edited_by_hand_is_kept_before_it_is_replaced(policies: Policies, store: SqlPolicies) -> None:
    applied = await policies.apply(Change("# new\n", by="alice", why=""), activate=accept)
    assert (applied.version.number, applied.found) == (2, 1)
    kept = await store.get(1)
    assert kept is not None
    assert (kept.text, kept.by, kept.why) == ("# by hand\n", "", FOUND_WHY)


async def test_the_same_text_again_is_no_version_but_is_taken_up(policies: Policies) -> None:
    first = await policies.apply(Change("# a\n", by="alice", why=""), activate=accept)
    with pytest.raises(Refused):  # it is asked
        await policies.apply(Change("# a\n", by="bob", why=""), activate=refuse)
    again = await policies.apply(Change("# a\n", by="bob", why=""), activate=accept)
    assert (again.version, again.is_new) == (first.version, False)


async def test_an_edit_by_hand_is_not_lost_when_the_newest_text_comes_back(policies: Policies, path: Path) -> None:
    await policies.apply(Change("# a\n", by="alice", why=""), activate=accept)
    edit(path, "# by hand again\n")
    again = await policies.apply(Change("# a\n", by="bob", why=""), activate=accept)
    assert (again.version.number, again.found, again.is_new) == (4, 3, True)
    assert text_of(path) == "# a\n"


async def test_an_old_text_that_is_brought_back_is_a_version(policies: Policies) -> None:
    await policies.apply(Change("# by hand\n", by="alice", why=""), activate=accept)
    await policies.apply(Change("# b\n", by="alice", why=""), activate=accept)
    back = await policies.apply(Change("# by hand\n", by="bob", why="b was wrong", restores=1), activate=accept)
    assert (back.version.number, back.version.restores) == (3, 1)


async def test_nothing_is_left_when_the_edge_refuses(policies: Policies, store: SqlPolicies, path: Path) -> None:
    with pytest.raises(Refused):
        await policies.apply(Change("# new\n", by="alice", why=""), activate=refuse)
    assert text_of(path) == "# by hand\n"
    assert list(await store.history(10)) == []
    remove(path)
    with pytest.raises(Refused):
        await policies.apply(Change("# new\n", by="alice", why=""), activate=refuse)
    assert names_beside(path) <= {"nomad.db", "nomad.db-wal", "nomad.db-shm"}


async def test_nothing_is_undone_over_somebody_who_came_later(
    policies: Policies, store: SqlPolicies, path: Path, tmp_path: Path
) -> None:
    """On another machine with the same database: its file is another."""
    (tmp_path / "other").mkdir()
    elsewhere = tmp_path / "other" / "policy.toml"
    other = Policies(store, elsewhere, wall=lambda: 1001.0)
    loop = asyncio.get_running_loop()

    def overtaken() -> None:
        asyncio.run_coroutine_threadsafe(
            other.apply(Change("# later\n", by="bob", why=""), activate=accept), loop
        ).result(10)
        raise Refused

    with pytest.raises(Refused):
        await policies.apply(Change("# new\n", by="alice", why=""), activate=overtaken)
    assert (text_of(elsewhere), text_of(path)) == ("# later\n", "# by hand\n")
    assert [each.text for each in await store.history(10)] == ["# later\n", "# new\n", "# by hand\n"]


async def test_the_file_is_of_the_version_that_is_the_newest(
    policies: Policies, store: SqlPolicies, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the version of one admin and the file of the same, another one did both: the file was the first one's."""
    monkeypatch.setattr("nomad.policies.TRY_S", 0.001)
    added = store.add

    class Slow(SqlPolicies):
        def __init__(self) -> None:
            """As an admin whose process is held up there."""

        history, find = store.history, store.find

        async def add(self, versions: Sequence[PolicyVersion]) -> None:
            await added(versions)
            overtakes.append(asyncio.create_task(policies.apply(Change("# b\n", by="ben", why=""), activate=accept)))
            for _ in range(100):
                await asyncio.sleep(0.001)

    overtakes: list[asyncio.Task[Applied]] = []
    slow = Policies(Slow(), path, wall=lambda: 1000.0)
    await slow.apply(Change("# a\n", by="ann", why=""), activate=accept)
    await asyncio.gather(*overtakes, return_exceptions=True)
    assert text_of(path) == (await store.history(1))[0].text


async def test_who_waits_too_long_is_told(policies: Policies, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad.policies.TRY_S", 0.001)
    monkeypatch.setattr("nomad.policies.PATIENCE_S", 0.01)
    async with policies._alone():
        with pytest.raises(Conflict, match="has been applying a policy for"):
            await policies.apply(Change("# b\n", by="ben", why=""), activate=accept)
    assert text_of(path) == "# by hand\n"
    await policies.apply(Change("# b\n", by="ben", why=""), activate=accept)


async def test_what_was_edited_while_the_edge_refused_is_kept(policies: Policies, path: Path) -> None:
    def edited() -> None:
        path.write_text("# edited\n")
        raise Refused

    with pytest.raises(Refused):
        await policies.apply(Change("# new\n", by="alice", why=""), activate=edited)
    assert text_of(path) == "# edited\n"


async def test_of_two_at_once_the_second_is_told(policies: Policies, store: SqlPolicies, path: Path) -> None:
    await policies.apply(Change("# by hand\n", by="alice", why=""), activate=accept)
    both = [policies.apply(Change(f"# {who}\n", by=who, why="mine"), activate=accept) for who in ("ann", "ben")]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    (lost,) = [each for each in outcomes if isinstance(each, Conflict)]
    newest = (await store.history(1))[0]
    assert newest.number == 2
    assert text_of(path) == newest.text
    assert f"version 2 is of {newest.by} (mine)" in str(lost)


async def test_a_text_made_from_an_older_version_is_refused(policies: Policies, path: Path) -> None:
    for text in ("# by hand\n", "# b\n"):
        await policies.apply(Change(text, by="alice", why=""), activate=accept)
    with pytest.raises(Conflict, match="made from version 1: version 2 is of alice"):
        await policies.apply(Change("# c\n", by="bob", why="", base=1), activate=accept)
    assert text_of(path) == "# b\n"
    assert (await policies.apply(Change("# c\n", by="bob", why="", base=2), activate=accept)).version.number == 3


async def test_a_file_that_cannot_be_written_leaves_everything_as_it_was(store: SqlPolicies, tmp_path: Path) -> None:
    policies = Policies(store, tmp_path / "missing" / "policy.toml", wall=lambda: 1.0)
    with pytest.raises(ConfigError, match="cannot be written"):
        await policies.apply(Change("# a\n", by="alice", why=""), activate=accept)
    assert list(await store.history(10)) == []


def test_a_replaced_file_keeps_its_mode_and_nothing_lies_about(path: Path) -> None:
    path.chmod(0o640)
    write_whole(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)
    assert [each.name for each in path.parent.iterdir()] == ["policy.toml"]


def test_the_working_copy_is_the_file_behind_a_link(path: Path) -> None:
    link = path.parent / "link.toml"
    link.symlink_to(path)
    config = Config(domain="x", policy="link.toml", folder=str(path.parent))
    assert policy_file(config) == path.resolve()
    assert read_policy(link) == "# by hand\n"
    with pytest.raises(ConfigError, match="built-in policy"):
        policy_file(Config(domain="x"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_policy(path.parent)
