from __future__ import annotations

from pathlib import Path

import pytest

from nomad.edge.trunks import make_trunk
from tests.harness.settings import GOOD, load, problems


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"inria.example"', '"inria example"', "domain: 'inria example' is no domain name"),
        ("[sip]", 'aliases = ["a b"]\n[sip]', "aliases: 'a b' is no domain name"),
        ("udp:127.0.0.1:5060", "sctp:127.0.0.1:5060", "sip.listen[0]: 'sctp:127.0.0.1:5060': transport must be"),
        ("udp:127.0.0.1:5060", "udp", "sip.listen[0]: 'udp': address missing"),
        ("udp:127.0.0.1:5060", "udp:::1", "sip.listen[0]: '::1': write host:port, with an IPv6 address in brackets"),
        ("udp:127.0.0.1:5060", "udp:127.0.0.1:99999", "port 99999 is above 65535"),
        ("udp:127.0.0.1:5060", "tls:127.0.0.1:5061", "needs sip.certificate"),
        ('["udp:127.0.0.1:5060"]', "[]", "sip.listen: is empty"),
        ("[sip]", '[sip]\ndigest = ["SHA-1"]', "sip.digest[0]: 'SHA-1' is not one of"),
        ("[sip]", '[sip]\ndigest_qop = ["none"]', "sip.digest_qop"),
        ("[sip]", "[sip]\nmin_expires_s = 4000", "min_expires_s <= default_expires_s"),
        ("[sip]", "[sip]\nmin_expires_s = 0", "sip.min_expires_s: must be above 0"),
        ("[sip]", "[sip]\nnonce_lifetime_s = 0", "sip.nonce_lifetime_s: must be above 0"),
        ("[sip]", "[sip]\ntimer_c_s = -1.0", "sip.timer_c_s: must be above 0"),
        ("[sip]", "[sip]\nmax_transactions = 0", "sip.max_transactions: must be above 0"),
        ("[sip]", '[sip]\ncertificate = "no.pem"', "sip.certificate: file"),
        ("[sip]", "[sip]\nsession_expires_s = 60", "sip.session_expires_s: 60 is too short"),
        ("[sip]", "[sip]\ndialog_check_s = -1", "sip.dialog_check_s: must not be below 0"),
        ("[[pbx]]", '[[pbx]]\ndiversion = "x"', "pbx[0].diversion: 'x' is neither"),
        ("[sip]", "[events]\nmax_per_person = 0\n[sip]", "events.max_per_person: must be above 0"),
        (
            "[directory]",
            '[[sip.certificates]]\nnames = ["a"]\ncertificate = "policy.toml"\n[directory]',
            "sip.certificate: is missing",
        ),
        (
            "[directory]",
            '[[sip.certificates]]\nnames = ["a"]\ncertificate = "no.pem"\n[directory]',
            "sip.certificates[0].certificate",
        ),
        (
            "[directory]",
            '[[sip.certificates]]\nnames = []\ncertificate = "x"\n[directory]',
            "sip.certificates[0].names: is empty",
        ),
        ("[sip]", '[sip]\nclient_certificates = "perhaps"', "sip.client_certificates: 'perhaps' is not one of"),
        ("[sip]", '[sip]\nclient_certificates = "required"', "sip.client_ca_file: goes with"),
        ("[sip]", '[sip]\nclient_ca_file = "policy.toml"', "sip.client_ca_file: goes with"),
        ("[sip]", '[sip]\nnameservers = ["ns.example"]', "sip.nameservers[0]: 'ns.example' is no address"),
        ("[sip]", '[sip]\nprivate_key = "no.pem"', "sip.private_key: file"),
        ("[sip]", '[sip]\npbx_certificate = "no.pem"', "sip.pbx_certificate: file"),
        ("[sip]", '[sip]\npbx_private_key = "no.pem"', "sip.pbx_certificate: is missing"),
        ("[sip]", '[sip]\nnonce_key_file = "no.key"', "sip.nonce_key_file: file"),
        ('url = "file:people.ldif"', "", "directory.url: is missing"),
        ("[directory]", '[directory]\nbind_password_file = "no.secret"', "directory.bind_password_file: file"),
        ('[[pbx]]\nname = "asterisk"\nuri = "sip:127.0.0.1:5070"', "", "pbx: no [[pbx]] is configured"),
        ("sip:127.0.0.1:5070", "127.0.0.1:5070", "pbx[0].uri"),
        ("sip:127.0.0.1:5070", "sip:1000@127.0.0.1", "pbx[0].uri"),
        ("[[pbx]]", '[[pbx]]\nextensions = "["', "pbx[0].extensions: no regular expression"),
        ("[[pbx]]", '[[pbx]]\ntrusted = ["pbx.example"]', "pbx[0].trusted[0]"),
        ("[[pbx]]", '[[pbx]]\ntrusted = ["127.0.0.1", "10.0.0.0/33"]', "pbx[0].trusted[1]"),
        ("[[pbx]]", '[[pbx]]\ntrusted = ["0.0.0.0/0"]', "is everybody"),
        ("[[pbx]]", '[[pbx]]\npassword_file = "no.secret"', "pbx[0].password_file: file"),
        ("[directory]", '[media]\nrelay = "magic"\n[directory]', "media.relay"),
        ("[[pbx]]", '[[pbx]]\ntrusted = ["::ffff:127.0.0.1"]', "pbx[0].trusted[0]: '::ffff:127.0.0.1' is IPv4"),
        ("[directory]", '[guard]\nnever_ban = ["::ffff:10.0.0.0/104"]\n[directory]', "write the IPv4 address"),
        ("[directory]", '[guard]\nnever_ban = ["all"]\n[directory]', "guard.never_ban[0]"),
        ("[directory]", '[admin]\nlisten = "0.0.0.0:8080"\n[directory]', "admin.listen: is not loopback"),
        ("[directory]", '[admin]\nlisten = "a b"\n[directory]', "admin.listen"),
        ("[directory]", '[admin]\ntoken_file = "no.token"\n[directory]', "admin.token_file: file"),
        ('"policy.toml"', '"no.toml"', "policy: file"),
        ("[directory]", '[accounting]\nsql = "radacct.db"\n[directory]', "accounting.sql: is no database"),
        ("[directory]", '[accounting]\nsql_password_file = "no"\n[directory]', "accounting.sql_password_file: file"),
        ("[directory]", "[accounting]\ninterim_interval_s = -1\n[directory]", "accounting.interim_interval_s"),
    ],
)
def test_every_check(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in GOOD
    assert key in problems(tmp_path, GOOD.replace(old, new, 1))


def test_every_finding_is_listed(tmp_path: Path) -> None:
    text = GOOD.replace("sip:127.0.0.1:5070", "nowhere").replace('"policy.toml"', '"no.toml"')
    assert len(problems(tmp_path, text).splitlines()) == 2


@pytest.mark.parametrize(
    "trusted", ["127.0.0.1", "127.0.0.1:5070", "10.0.0.0/8", "::1", "[::1]:5070", "fd00::/8", "[::1]"]
)
def test_what_a_trusted_address_may_look_like(tmp_path: Path, trusted: str) -> None:
    loaded = load(tmp_path, GOOD.replace("[[pbx]]", f'[[pbx]]\ntrusted = ["{trusted}"]'))
    trunk = make_trunk(loaded.pbx[0], places=[])
    inside = {"10.0.0.0/8": "10.1.2.3", "fd00::/8": "fd00::1"}.get(trusted, "::1" if "::" in trusted else "127.0.0.1")
    assert trunk.is_source((inside, 5070))
    assert trunk.is_source((inside, 5071)) is not trusted.endswith("5070")
    assert not trunk.is_source(("192.0.2.9", 5070))


@pytest.mark.parametrize("role", ["auth", "acct"])
def test_radius_servers(tmp_path: Path, role: str) -> None:
    (tmp_path / "s").write_text("x")
    whole = GOOD + '[radius]\nauth = ["h:1"]\nacct = ["h:2"]\nsecret_file = "s"\n'
    assert load(tmp_path, whole).radius is not None
    assert f"radius.{role}[0]" in problems(tmp_path, whole.replace(f'{role} = ["h', f'{role} = ["h h'))
    assert "radius.dialect" in problems(tmp_path, whole + 'dialect = "x"\n')
    assert "radius.timeout_s" in problems(tmp_path, whole + "timeout_s = 0.0\n")
    assert "radius.secret_file: file" in problems(tmp_path, whole.replace('"s"', '"no"'))
    assert "radius.secret_file: is missing" in problems(tmp_path, whole.replace('secret_file = "s"', ""))


def test_empty_token_variable_does_not_open_the_admin_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMAD_ADMIN_TOKEN", "")
    text = GOOD + '[admin]\nlisten = "0.0.0.0:8080"\n'
    assert "admin.listen: is not loopback" in problems(tmp_path, text)
    monkeypatch.setenv("NOMAD_ADMIN_TOKEN", "t")
    load(tmp_path, text)


@pytest.mark.parametrize(
    ("names", "file", "key"),
    [
        ('["*"]', "x", "'*' is no host name"),
        ('["a", "A"]', "x", "'A' stands twice"),
    ],
)
def test_certificates_by_name(tmp_path: Path, names: str, file: str, key: str) -> None:
    table = f'[[sip.certificates]]\nnames = {names}\ncertificate = "{file}"\n'
    assert key in problems(tmp_path, GOOD.replace("[directory]", f"{table}[directory]"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[guard]\nnft_set = "nomad"', "guard.nft_set: 'nomad' is no set"),
        ('[guard]\nnft_set = "inet filter nomad; flush ruleset"', "guard.nft_set: "),
        ('[guard]\nnft_set = "inet filter nomad"\ncommand = ["ban"]', "guard.command: takes the place"),
        ("[guard]\nsuspect_pause_s = 0", "guard.suspect_pause_s: must be above 0"),
        ("[guard]\nrefusal_s = -1", "guard.refusal_s: is below 0"),
        ('[guard]\nscanners = "missing.toml"', "guard.scanners: file"),
        ('[fraud]\nshort_calls = { actions = ["locks"] }', "fraud.short_calls.actions: 'locks' is not one of"),
        ("[fraud]\ndestinations = { limit = 0 }", "fraud.destinations.limit: must be from 1"),
        ("[fraud]\nfailures = { limit = 501 }", "fraud.failures.limit: must be from 1 to 500"),
        ("[fraud]\nfailures = { within_s = 0.0 }", "fraud.failures.within_s"),
        ('[fraud]\ndirectory_bind_dn = "cn=x"', "needs directory.url to name an LDAP directory"),
        ("[fraud]\nshort_call_s = 0", "fraud.short_call_s: must be above 0"),
        ('[alarms]\nwebhook = "host"', "alarms.webhook: 'host' is no address"),
        ('[alarms]\nmail_to = ["a@b"]', "alarms.mail_to: has no effect"),
        ('[alarms]\nsmtp = "mail:25"\nsmtp_security = "none"\nmail_from = "a@b"\nmail_to = ["a@b"]', "loopback"),
        ('[alarms]\nsmtp = "mail:25"\nsmtp_security = "ssl"\nmail_from = "a@b"\nmail_to = ["a@b"]', "is none of"),
        ('[alarms]\nsmtp = "mail:25"', "alarms.mail_from, alarms.mail_to"),
        ('[alarms]\nwebhook = "https://x"\ntries = 0', "alarms.tries"),
        ('[alarms]\nwebhook = "https://x"\nwebhook_secret_file = "missing"', "alarms.webhook_secret_file: file"),
    ],
)
def test_the_watch_over_accounts_and_addresses(tmp_path: Path, text: str, said: str) -> None:
    assert said in problems(tmp_path, f"{GOOD}\n{text}\n")
