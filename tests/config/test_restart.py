from __future__ import annotations

import msgspec

from nomad.config import Accounting, Config, Guard, Pbx, Radius, Sip, Store
from nomad.config.restart import marked, needing_restart

BASE = Config(domain="inria.example", sip=Sip(), pbx=(Pbx(name="a", uri="sip:192.0.2.1"),))


def changed(**changes: object) -> tuple[str, ...]:
    return needing_restart(BASE, msgspec.structs.replace(BASE, **changes))


def test_the_marks_of_the_tables_are_read() -> None:
    assert {"Sip.listen", "Sip.min_session_expires_s", "Radius.ca_file", "Store.url", "DirectoryTable"} <= marked()
    assert not {"Config.policy", "Config.pbx", "Guard.ban_s", "Accounting.interim_interval_s", "Sip"} & marked()


def test_what_a_reload_takes_up_is_not_named() -> None:
    assert changed() == ()
    assert changed(policy="other.toml", pbx=(), guard=Guard(ban_s=5.0), folder="/elsewhere") == ()
    assert changed(accounting=Accounting(interim_interval_s=60)) == ()


def test_what_it_does_not_is_named_by_its_path() -> None:
    assert changed(sip=Sip(listen=("udp:127.0.0.1:5070",), advertise="x"), store=Store(spool="other.db")) == (
        "sip.listen",
        "sip.advertise",
        "store.spool",
    )
    assert changed(domain="other.example") == ("domain",)


def test_a_table_that_was_left_out_is_compared_with_what_it_means() -> None:
    assert changed(radius=Radius()) == ()
    assert changed(radius=Radius(verdict_cache_s=1.0)) == ("radius.verdict_cache_s",)


def test_a_key_of_a_marked_table_is_named() -> None:
    directory = msgspec.structs.replace(BASE.directory, url="ldap://192.0.2.3")
    assert changed(directory=directory) == ("directory.url",)
