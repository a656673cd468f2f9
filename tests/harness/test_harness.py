"""The harness itself: what is missing is said, what was started is gone, what was recorded is read right."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.harness.audio import loudest_tone, write_tone
from tests.harness.debian import COMPONENTS, Component, require
from tests.harness.freeradius import parse_detail
from tests.harness.people import ALICE, BOB, CAROL, crowd, ldif
from tests.harness.ports import free_port, free_range, is_free
from tests.harness.processes import Process, ProcessFailed, run, wait_until


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(COMPONENTS, "nonesuch", Component(("no-such-program",), ("no-such-package",)))
    return "nonesuch"


@pytest.mark.parametrize("demanded", ["", "slapd,asterisk"])
def test_a_missing_component_skips_with_its_name_and_the_install_line(
    missing: str, monkeypatch: pytest.MonkeyPatch, demanded: str
) -> None:
    monkeypatch.setenv("NOMAD_REQUIRE", demanded)
    with pytest.raises(pytest.skip.Exception, match=r"nonesuch is missing: apt-get install .* no-such-package"):
        require(missing)


@pytest.mark.parametrize("demanded", ["all", "slapd, nonesuch"])
def test_a_missing_component_fails_where_it_is_demanded(
    missing: str, monkeypatch: pytest.MonkeyPatch, demanded: str
) -> None:
    monkeypatch.setenv("NOMAD_REQUIRE", demanded)
    with pytest.raises(pytest.fail.Exception, match="nonesuch is missing"):
        require(missing)


def test_stop_ends_the_whole_group_even_what_ignores_sigterm(tmp_path: Path) -> None:
    stubborn = "trap '' TERM; (trap '' TERM; echo $BASHPID; while :; do sleep 9; done) & wait"
    process = Process("stubborn", ["bash", "-c", stubborn], log=tmp_path / "log")
    process.wait_ready(process.output)
    child = int(process.output())
    process.stop(grace_s=0.1)
    assert process.exit_code == -signal.SIGKILL
    wait_until(lambda: not _alive(child), timeout_s=5, what="the child's end")


def test_a_program_that_ends_early_is_shown_with_its_output(tmp_path: Path) -> None:
    process = Process(
        "broken", [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], log=tmp_path / "log"
    )
    with pytest.raises(ProcessFailed, match=r"broken ended with 3:\nthe reason"):
        process.wait_ready(lambda: False)


def test_a_short_command_that_fails_is_shown_with_its_output() -> None:
    with pytest.raises(ProcessFailed, match="no such thing"):
        run(["sh", "-c", "echo no such thing; exit 1"])


def test_ports_are_free_and_given_out_once() -> None:
    ports = [free_port() for _ in range(50)]
    first = free_range(10)
    assert len({*ports, *range(first, first + 10)}) == 60
    assert first % 2 == 0
    assert all(is_free(port) for port in ports)


@pytest.mark.parametrize("hz", [440, 700])
def test_a_tone_is_found_again(tmp_path: Path, hz: int) -> None:
    write_tone(tmp_path / "tone.wav", hz=hz, seconds=1)
    assert loudest_tone(tmp_path / "tone.wav") == hz


def test_silence_and_half_written_recordings_have_no_tone(tmp_path: Path) -> None:
    write_tone(tmp_path / "short.wav", hz=440, seconds=0)
    (tmp_path / "empty.wav").write_bytes(b"")
    assert loudest_tone(tmp_path / "short.wav") is None
    assert loudest_tone(tmp_path / "empty.wav") is None


def test_detail_records_are_taken_apart() -> None:
    text = 'Mon\n\tUser-Name = "a\\"b\\\\c"\n\tAcct-Session-Time = 7\n\nTue\n\tUser-Name = "d = e"\n\n'
    assert [dict(record) for record in parse_detail(text)] == [
        {"User-Name": 'a"b\\c', "Acct-Session-Time": "7"},
        {"User-Name": "d = e"},
    ]


def test_people_are_stored_in_the_ways_of_real_directories() -> None:
    text = ldif([ALICE, BOB, CAROL])
    assert "userPassword: alice-secret" in text
    assert "userPassword: bob-secret" not in text
    assert text.count("sipDigestHA1: MD5:bob") == 3
    assert len({person.login for person in crowd(100)}) == len({person.extension for person in crowd(100)}) == 100


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
