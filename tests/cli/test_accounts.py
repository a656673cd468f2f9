from __future__ import annotations

import json

from tests.admin.console import ListConsole
from tests.cli.conftest import Nomad


async def test_accounts_are_locked_and_unlocked(nomad: Nomad, console: ListConsole) -> None:
    ran = await nomad("lock", "bob", "--why", "calls to nowhere")
    assert ran.out == "bob is locked; 2 registrations and calls removed\n"
    assert (console.locked[-1].user, console.locked[-1].why) == ("bob", "calls to nowhere")
    assert console.by[-1].startswith("admin ")
    assert "@127.0.0.1" in console.by[-1]
    assert json.loads((await nomad("lock", "eve", "--why", "x", "--json")).out) == {"user": "eve", "removed": 2}
    assert (await nomad("unlock", "bob")).out == "bob is unlocked\n"
    ran = await nomad("unlock", "bob")
    assert (ran.code, ran.err) == (1, "nomad: bob is not locked; see: nomad locks\n")
    assert json.loads((await nomad("unlock", "eve", "--json")).out) == {"user": "eve"}


async def test_a_lock_needs_a_reason(bare: Nomad) -> None:
    assert (await bare("lock", "bob")).code == 2


async def test_locks_are_listed(nomad: Nomad, console: ListConsole) -> None:
    assert (await nomad("locks")).out.splitlines()[1].startswith("mallory  1970-01-01 00:16:40  admin eve@::1  stolen")
    assert json.loads((await nomad("locks", "--json")).out)[0]["user"] == "mallory"
    console.locked.clear()
    assert (await nomad("locks")).err == "no account is locked\n"
