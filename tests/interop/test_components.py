"""Each real component alone, so that a failure with the edge between them can be told from a failure of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import sipp
from tests.harness.asterisk import DIRECT, DIRECT_PASSWORD, TONE_HZ, Asterisk
from tests.harness.debian import ROOT, require
from tests.harness.freeradius import FreeRadius, digest_attributes
from tests.harness.people import ALICE, BOB, CAROL, DOMAIN, DORA, ERIN, Person, crowd
from tests.harness.pki import Pki
from tests.harness.ports import HOST, is_free
from tests.harness.processes import run, wait_until
from tests.harness.slapd import Slapd
from tests.interop.conftest import NewFolder, NewPhone

DIALECTS = ("sterman", "rfc5090")


# -- slapd -------------------------------------------------------------------------------------------------------


def test_only_the_service_account_reads_secrets(slapd: Slapd) -> None:
    as_service = slapd.search("(uid=bob)")
    as_person = slapd.search("(uid=bob)", bind_dn=ALICE.dn, bind_password=ALICE.password)
    as_nobody = slapd.search("(uid=bob)", bind_dn="", bind_password="")
    assert "sipDigestHA1: SHA-256:bob:" in as_service
    assert BOB.mail in as_person
    for view in (as_person, as_nobody):
        assert "sipDigestHA1" not in view
        assert "userPassword" not in view
    assert BOB.mail not in as_nobody


def test_people_log_in_to_the_directory_with_their_password_only(slapd: Slapd) -> None:
    assert slapd.search("(uid=alice)", "mail", bind_dn=BOB.dn, bind_password=BOB.password)
    assert not slapd.search("(uid=alice)", "mail", bind_dn=BOB.dn, bind_password="wrong")


def test_groups_show_at_their_members_and_follow_changes(slapd: Slapd) -> None:
    staff, visitors = f"cn=staff,ou=groups,{slapd.base}", f"cn=visitors,ou=groups,{slapd.base}"
    assert f"memberOf: {staff}" in slapd.search("(uid=erin)", "memberOf")
    change = f"dn: {visitors}\nchangetype: modify\n%s: member\nmember: {ERIN.dn}\n"
    slapd.modify(change % "add")
    assert f"memberOf: {visitors}" in slapd.search("(uid=erin)", "memberOf")
    slapd.modify(change % "delete")
    assert f"memberOf: {visitors}" not in slapd.search("(uid=erin)", "memberOf")


def test_ldaps_is_verified_against_our_authority(slapd: Slapd, pki: Pki) -> None:
    who = ["env", f"LDAPTLS_CACERT={pki.ca}", "ldapwhoami", "-x", "-H", slapd.tls_url, "-D", ALICE.dn]
    assert ALICE.login in run([*who, "-w", ALICE.password])


def test_a_large_directory_starts_quickly(new_folder: NewFolder) -> None:
    require("slapd")
    server = Slapd(new_folder("crowd"), people=crowd(5000))
    try:
        assert "sipDigestHA1: MD5:u04999:" in server.search("(uid=u04999)", "sipDigestHA1")
    finally:
        server.stop()


def test_components_do_not_outlive_a_killed_test_run(new_folder: NewFolder) -> None:
    require("slapd")
    code = (
        "import sys, pathlib, time\n"
        "from tests.harness.slapd import Slapd\n"
        "print(Slapd(pathlib.Path(sys.argv[1]) / 'orphan').url, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(new_folder("orphan"))]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run_to_kill:
        assert run_to_kill.stdout is not None
        port = int(run_to_kill.stdout.readline().rpartition(":")[2])
        assert not is_free(port)
        run_to_kill.kill()
    wait_until(lambda: is_free(port), timeout_s=5, what="slapd gone")


# -- FreeRADIUS --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess"])
@pytest.mark.parametrize("person", [ALICE, BOB, CAROL], ids=["clear", "ha1", "both"])
def test_digest_logins(freeradius: FreeRadius, person: Person, algorithm: str, dialect: str) -> None:
    for qop in ("auth", ""):
        options = {"dialect": dialect, "algorithm": algorithm, "qop": qop}
        assert freeradius.ask(digest_attributes(person.login, person.password, **options)).kind == "Access-Accept"
        assert freeradius.ask(digest_attributes(person.login, "wrong", **options)).kind == "Access-Reject"


@pytest.mark.parametrize("user", [BOB.login, f"{BOB.login}@{DOMAIN}", BOB.mail])
def test_every_login_form_leads_to_the_same_person(freeradius: FreeRadius, user: str) -> None:
    reply = freeradius.ask(digest_attributes(user, BOB.password))
    assert reply.all("User-Name") == [BOB.login]
    assert sorted(reply.all("Nomad-Address")) == [BOB.mail, f"{BOB.login}@{DOMAIN}"]
    assert reply.all("Nomad-Extension") == [BOB.extension]
    assert reply.all("Nomad-Display-Name") == ["Bob Durand"]
    assert len(reply.all("Class")) == 1
    assert len(reply.all("Message-Authenticator")) == 1


def test_groups_of_the_directory_and_of_the_policy_come_along(freeradius: FreeRadius, slapd: Slapd) -> None:
    groups = freeradius.ask(digest_attributes(CAROL.login, CAROL.password)).all("Nomad-Group")
    assert sorted(groups) == [*(f"cn={name},ou=groups,{slapd.base}" for name in CAROL.groups), "night"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_refusals_do_not_tell_why(freeradius: FreeRadius, dialect: str) -> None:
    # erin has no secret that a digest could be checked with, dora is disabled
    logins = [(ERIN.login, ERIN.password), (ALICE.login, "x"), (DORA.login, "x"), ("nobody", "x")]
    replies = [freeradius.ask(digest_attributes(*login, dialect=dialect)) for login in logins]
    assert {reply.kind for reply in replies} == {"Access-Reject"}
    assert {tuple(name for name, _ in reply.attributes) for reply in replies} == {("Message-Authenticator",)}


def test_who_knows_the_password_hears_that_the_account_is_disabled(freeradius: FreeRadius) -> None:
    reply = freeradius.ask(digest_attributes(DORA.login, DORA.password))
    assert reply.kind == "Access-Reject"
    assert reply.all("Reply-Message") == ["This account is disabled"]
    assert reply.all("Nomad-SIP-Response-Code") == ["403"]
    assert not reply.all("User-Name")


def test_a_filter_in_the_user_name_finds_nobody(freeradius: FreeRadius) -> None:
    assert freeradius.ask(digest_attributes("*", ALICE.password)).kind == "Access-Reject"
    assert freeradius.ask(digest_attributes("a*)(uid=alice", ALICE.password)).kind == "Access-Reject"


def test_requests_without_message_authenticator_get_no_answer(freeradius: FreeRadius) -> None:
    lines = digest_attributes(ALICE.login, ALICE.password).splitlines()
    bare = "\n".join(line for line in lines if not line.startswith("Message-Authenticator"))
    assert freeradius.ask(bare, timeout_s=0.5).kind == ""


def test_status_server_is_answered(freeradius: FreeRadius) -> None:
    assert freeradius.ask("Message-Authenticator = 0x00\n", kind="status").kind == "Access-Accept"


def test_accounting_is_written_down(freeradius: FreeRadius) -> None:
    sent = {"User-Name": "alice", "Acct-Status-Type": "Start", "Acct-Session-Id": 'a"b\\c', "NAS-Identifier": "edge"}
    assert freeradius.ask({**sent, "Nomad-SIP-Call-Id": "77@x"}, kind="acct").kind == "Accounting-Response"
    record = freeradius.detail_records()[-1]
    assert sent.items() <= record.items()
    assert record["Nomad-SIP-Call-Id"] == "77@x"


# -- SIPp, Asterisk, baresip -------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_sipp_calls_sipp(sipp_folder: Path, transport: str) -> None:
    far = sipp.Sipp(sipp_folder / "far", "answer", calls=3, transport=transport)
    near = sipp.Sipp(
        sipp_folder / "near", "call", target=far.address, fields=[("alice", "", "1000")], calls=3, transport=transport
    )
    assert (near.wait().successful, far.wait().successful) == (3, 3)


@pytest.mark.parametrize("status", ["403", "404", "480", "486", "503"])
def test_asterisk_refuses_with_the_status_that_was_dialled(asterisk: Asterisk, sipp_folder: Path, status: str) -> None:
    values = {"CODE": status}
    result = sipp.call(sipp_folder, asterisk.address, f"4{status}", scenario="refused", values=values)
    assert result.successful == 1, result.errors


def test_asterisk_calls_the_edge_and_writes_call_records(asterisk: Asterisk, sipp_folder: Path, edge_port: int) -> None:
    far = sipp.Sipp(sipp_folder / "edge", "answer", port=edge_port)
    near = sipp.Sipp(sipp_folder / "near", "call", target=asterisk.address, fields=[("alice", "", BOB.extension)])
    result = near.wait()
    assert result.successful == 1, result.errors
    assert f"INVITE sip:{BOB.extension}@{HOST}:{edge_port}" in far.wait().messages
    asterisk.wait_idle()
    assert asterisk.cdrs()[-1]["dst"] == BOB.extension


def test_baresip_registers_and_talks_to_the_echo(asterisk: Asterisk, new_phone: NewPhone) -> None:
    phone = new_phone("direct", f"sip:{DIRECT}@{DOMAIN}", DIRECT_PASSWORD, outbound=f"sip:{asterisk.address}")
    assert phone.register()["type"] == "REGISTER_OK"
    assert phone.call(f"sip:1001@{DOMAIN}")["type"] == "CALL_ESTABLISHED"
    phone.wait_audio(seconds=1.0)
    phone.hangup()
    phone.wait("CALL_CLOSED")
    asterisk.wait_idle()
    assert phone.heard(440)
    assert asterisk.heard(440)


def test_baresip_hears_a_wrong_password(asterisk: Asterisk, new_phone: NewPhone) -> None:
    phone = new_phone("direct", f"sip:{DIRECT}@{DOMAIN}", "wrong", outbound=f"sip:{asterisk.address}")
    assert phone.register()["type"] == "REGISTER_FAIL"


def test_asterisk_calls_baresip(asterisk: Asterisk, new_phone: NewPhone) -> None:
    phone = new_phone("direct", f"sip:{DIRECT}@{DOMAIN}", DIRECT_PASSWORD, outbound=f"sip:{asterisk.address}")
    phone.register()
    asterisk.cli(f"channel originate PJSIP/{DIRECT} extension 2001@numbers")
    phone.wait("CALL_INCOMING")
    phone.accept()
    phone.wait("CALL_ESTABLISHED")
    phone.wait_audio(seconds=1.0)
    asterisk.hang_up_all()
    phone.wait("CALL_CLOSED")
    assert phone.heard(TONE_HZ)
