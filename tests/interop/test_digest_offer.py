"""The default digest offer lets in phones that are known to be difficult; those that can do better do (RFC 8760)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.debian import require
from tests.harness.linphone import Linphone
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN, Person
from tests.harness.ports import HOST, free_port
from tests.harness.processes import attempt
from tests.harness.secure import SecureEdge
from tests.harness.sipp import Sipp, credentials
from tests.interop.conftest import NewFolder, NewPhone


@pytest.fixture(scope="module")
def default_edge(new_folder: NewFolder) -> Iterator[SecureEdge]:
    """An edge that offers what it offers by default; nobody is behind it."""
    server = SecureEdge(new_folder("edge-default"), pbx=f"sip:{HOST}:{free_port()}")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def strong_edge(new_folder: NewFolder) -> Iterator[SecureEdge]:
    """An edge that offers SHA-256 first, MD5 alone to baresip, and lets Bob in with SHA-256 only."""
    lines = ['digest = ["SHA-256", "MD5"]']
    lines += ["[[sip.digest_rule]]", 'user_agent = "^baresip"', 'offer = ["MD5"]']
    lines += ["[[sip.digest_rule]]", f'users = ["{BOB.login}"]', 'offer = ["SHA-256"]']
    server = SecureEdge(new_folder("edge-strong"), pbx=f"sip:{HOST}:{free_port()}", sip=lines)
    yield server
    server.stop()


def sipsak(edge: SecureEdge, person: Person, password: str = "") -> bool:
    """Register with sipsak, which writes no port of five digits into a URI."""
    command = ["sipsak", "-U", "-i", "-D", "3", "-s", f"sip:{person.login}@localhost", "-r", edge.port]
    command += ["-u", person.login, "-a", password or person.password, "-x", "600", "-C", f"sip:x@{HOST}:9"]
    return attempt(command, timeout_s=20.0).returncode == 0


def linphone_algorithm(edge: SecureEdge, folder: Path, person: Person, transport: str = "udp") -> str:
    """Register with Linphone; the algorithm that it chose."""
    phone = Linphone(folder)
    try:
        phone.register(f"sip:{person.login}@{DOMAIN}", f"sip:{edge.address};transport={transport}", person.password)
        phone.wait("to [LinphoneRegistrationOk]")
    finally:
        phone.stop()
    found = re.search(r"^Authorization:.*?algorithm=([A-Z0-9-]+)", phone.messages(), re.MULTILINE)
    assert found, "no credentials"
    return found[1]


def contacts(edge: SecureEdge, person: Person) -> int:
    entries = {entry["user"]: entry for entry in edge.get("/api/v1/registrations")["registrations"]}
    return len(entries[person.login]["bindings"]) if person.login in entries else 0


def test_baresip_registers(default_edge: SecureEdge, strong_edge: SecureEdge, new_phone: NewPhone) -> None:
    for number, edge in enumerate((default_edge, strong_edge)):
        outbound = f"sip:{edge.address}"
        phone = new_phone(f"phone-{number}", f"sip:{ALICE.login}@{DOMAIN}", ALICE.password, outbound=outbound)
        assert phone.register()["type"] == "REGISTER_OK"
        assert contacts(edge, ALICE) == 1
        assert "SHA-256" not in phone.output()


def test_sipp_registers(default_edge: SecureEdge, sipp_folder: Path) -> None:
    fields = [(CAROL.login, credentials(CAROL.login, CAROL.password), "600")]
    run = Sipp(sipp_folder, "register", target=default_edge.address, fields=fields).wait()
    assert run.successful == 1, run.errors
    assert contacts(default_edge, CAROL) == 1


def test_sipsak_registers(default_edge: SecureEdge) -> None:
    require("sipsak")
    before = contacts(default_edge, BOB)
    assert sipsak(default_edge, BOB)
    assert contacts(default_edge, BOB) == before + 1
    assert not sipsak(default_edge, BOB, "wrong")


def test_linphone_registers_with_sha_256(default_edge: SecureEdge, strong_edge: SecureEdge, tmp_path: Path) -> None:
    require("linphone")
    assert linphone_algorithm(default_edge, tmp_path / "default", BOB) == "SHA-256"
    assert linphone_algorithm(strong_edge, tmp_path / "strong", BOB) == "SHA-256"


def test_who_demands_sha_256_gets_in_with_nothing_else(strong_edge: SecureEdge, new_phone: NewPhone) -> None:
    phone = new_phone("weak", f"sip:{BOB.login}@{DOMAIN}", BOB.password, outbound=f"sip:{strong_edge.address}")
    assert phone.register()["type"] == "REGISTER_FAIL"
    require("sipsak")
    assert not sipsak(strong_edge, BOB)
