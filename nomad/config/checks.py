"""What is wrong with a configuration beyond types, each with the key path and the mend."""

from __future__ import annotations

import ipaddress
import os
import re

from nomad.config.addresses import is_loopback, parse_listen, split_host_port
from nomad.config.tables import Config, DigestRule, Radius, Watch

ALGORITHMS = ("MD5", "SHA-256", "SHA-512-256")
DNS_PORT = 53
LEAST_SESSION_S = 90  # RFC 4028 4
DISCONNECT_PORT = 3799  # RFC 5176 2.1
CLIENT_CERTIFICATES = ("off", "optional", "required")
SERVER_NAME = re.compile(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
FRAUD_RULES = ("new_country", "short_calls", "destinations", "unusual", "failures", "refused_calls")
FRAUD_ACTIONS = ("warn", "tell-admin", "refuse", "reregister", "end-calls", "lock")
MAX_FRAUD_LIMIT = 500  # as many calls of a person are remembered
MAPPED = "is IPv4 within IPv6, as no peer comes; write the IPv4 address"
RADSEC = "radsec:"  # before a RADIUS server that is reached over TLS


def check(config: Config) -> list[str]:
    """What is wrong beyond types: `key path: what; mend` for each finding."""
    rooms = (_check_sip, _check_radius, _check_accounting, _check_pbx, _check_admin)
    return [problem for room in rooms for problem in room(config)]


def _check_sip(config: Config) -> list[str]:
    problems = []
    sip = config.sip
    if not re.fullmatch(r"[A-Za-z0-9.-]+", config.domain):
        problems.append(f"domain: '{config.domain}' is no domain name; write it as in 'inria.example'")
    for index, text in enumerate(sip.listen):
        try:
            listen = parse_listen(text)
        except ValueError as error:
            problems.append(f"sip.listen[{index}]: {error}")
            continue
        if listen.transport in ("tls", "wss") and not sip.certificate:
            problems.append(f"sip.listen[{index}]: '{text}' needs sip.certificate")
    for index, text in enumerate(sip.nameservers):
        try:
            ipaddress.ip_address(split_host_port(text, DNS_PORT)[0])
        except ValueError:
            problems.append(f"sip.nameservers[{index}]: '{text}' is no address; write it as in '192.0.2.53'")
    if not sip.listen:
        problems.append("sip.listen: is empty; name at least one, as in 'udp:0.0.0.0:5060'")
    problems += [
        f"sip.digest[{i}]: '{name}' is not one of {', '.join(ALGORITHMS)}"
        for i, name in enumerate(sip.digest)
        if name not in ALGORITHMS
    ]
    if not sip.digest_qop or not set(sip.digest_qop) <= {"auth", "auth-int"}:
        problems.append('sip.digest_qop: name "auth", "auth-int" or both')
    for index, rule in enumerate(sip.digest_rule):
        problems += [f"sip.digest_rule[{index}].{problem}" for problem in _digest_rule_problems(rule)]
    for alias in config.aliases:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", alias):
            problems.append(f"aliases: '{alias}' is no domain name; write it as in 'inria.example'")
    problems += [
        f"sip.{key}: must be above 0"
        for key in (
            *("nonce_lifetime_s", "timer_c_s", "min_expires_s", "max_transactions", "max_connections"),
            *("max_connections_per_address", "handshake_s", "first_message_s", "message_s", "idle_s"),
        )
        if getattr(sip, key) <= 0
    ]
    if sip.session_expires_s and sip.session_expires_s < max(sip.min_session_expires_s, LEAST_SESSION_S):
        problems.append(
            f"sip.session_expires_s: {sip.session_expires_s} is too short; at least min_session_expires_s and "
            f"{LEAST_SESSION_S} (RFC 4028 4), or 0 for no timer"
        )
    if sip.dialog_check_s < 0:
        problems.append("sip.dialog_check_s: must not be below 0; 0 switches it off")
    if not sip.min_expires_s <= sip.default_expires_s <= sip.max_expires_s:
        problems.append("sip: min_expires_s <= default_expires_s <= max_expires_s must hold")
    for key in (
        *("certificate", "private_key", "client_ca_file", "ca_file", "nonce_key_file"),
        *("pbx_certificate", "pbx_private_key"),
    ):
        problems += _missing_file(config, f"sip.{key}", getattr(sip, key))
    if sip.pbx_private_key and not sip.pbx_certificate:
        problems.append("sip.pbx_certificate: is missing; sip.pbx_private_key is the key of that one")
    return problems + _check_certificates(config)


def _check_certificates(config: Config) -> list[str]:
    """Those chosen by name, and those of phones."""
    problems = []
    sip = config.sip
    seen: set[str] = set()
    if sip.certificates and not sip.certificate:
        problems.append("sip.certificate: is missing; clients that ask for no name are shown that one")
    for index, each in enumerate(sip.certificates):
        if not each.names:
            problems.append(
                f"sip.certificates[{index}].names: is empty; name what clients ask for, as 'sip.inria.example'"
            )
        for name in each.names:
            if not SERVER_NAME.fullmatch(name):
                problems.append(f"sip.certificates[{index}].names: '{name}' is no host name, nor '*.' and one")
            if name.lower() in seen:
                problems.append(f"sip.certificates[{index}].names: '{name}' stands twice; clients get one certificate")
            seen.add(name.lower())
        for key in ("certificate", "private_key"):
            problems += _missing_file(config, f"sip.certificates[{index}].{key}", getattr(each, key))
    if sip.client_certificates not in CLIENT_CERTIFICATES:
        names = ", ".join(CLIENT_CERTIFICATES)
        problems.append(f"sip.client_certificates: '{sip.client_certificates}' is not one of {names}")
    elif (sip.client_certificates != "off") != bool(sip.client_ca_file):
        problems.append('sip.client_ca_file: goes with sip.client_certificates = "optional" or "required"; give both')
    return problems


def _digest_rule_problems(rule: DigestRule) -> list[str]:
    names = ", ".join(ALGORITHMS)
    problems = [f"offer: '{name}' is not one of {names}" for name in rule.offer if name not in ALGORITHMS]
    if not rule.offer:
        problems.append(f"offer: is empty; name at least one of {names}")
    if not rule.user_agent and not rule.users:
        problems.append("user_agent: is missing, and so is users; name one, or change sip.digest")
    try:
        re.compile(rule.user_agent)
    except re.error as error:
        problems.append(f"user_agent: no regular expression: {error}")
    return problems


def _check_radius(config: Config) -> list[str]:
    problems = []
    radius = config.radius
    if radius is not None:
        if radius.verdict_cache_s < 0 or radius.verdict_outage_s < 0:
            problems.append("radius.verdict_cache_s, radius.verdict_outage_s: are seconds; 0 switches them off")
        problems += _check_orders(radius) + _missing_file(config, "radius.secret_file", radius.secret_file)
        if radius.embedded and radius.verify != "server":
            problems.append("radius.verify: has no use here, the embedded server knows every algorithm; leave it out")
    if radius is None or radius.embedded:
        if not config.directory.url:
            problems.append(
                "directory.url: is missing; the embedded RADIUS server needs one, as in 'file:people.ldif', "
                "or name RADIUS servers in [radius]"
            )
        return problems + _missing_file(config, "directory.bind_password_file", config.directory.bind_password_file)
    for role in ("auth", "acct"):
        if not getattr(radius, role):
            problems.append(f"radius.{role}: is empty; name at least one server, as in '127.0.0.1:1812'")
        for index, server in enumerate(getattr(radius, role)):
            try:
                split_host_port(server.removeprefix(RADSEC), 1812)
            except ValueError as error:
                problems.append(f"radius.{role}[{index}]: {error}")
    if radius.dialect not in ("sterman", "rfc5090"):
        problems.append(f"radius.dialect: '{radius.dialect}' is neither 'sterman' nor 'rfc5090'")
    if radius.timeout_s <= 0:
        problems.append("radius.timeout_s: must be above 0")
    return problems + _check_verify(radius) + _check_protection(config, radius)


def _check_verify(radius: Radius) -> list[str]:
    """HA1 never travels in clear over a network."""
    if radius.verify == "server":
        return []
    if radius.verify != "edge":
        return [f"radius.verify: '{radius.verify}' is neither 'server' nor 'edge'"]
    return [
        f"radius.verify: 'edge' lets '{server}' send secrets over a network; name it as 'radsec:{server}', "
        "or a loopback address such as '127.0.0.1:1812'"
        for server in radius.auth
        if not server.startswith(RADSEC) and not _is_at_loopback(server)
    ]


def _is_at_loopback(server: str) -> bool:
    try:
        return is_loopback(split_host_port(server, 1812)[0])
    except ValueError:
        return True  # said elsewhere


def _check_protection(config: Config, radius: Radius) -> list[str]:
    """Shared secrets for UDP, certificates for RadSec, and no falling back from one to the other."""
    problems = []
    for role in ("auth", "acct"):
        over_tls = {server.startswith(RADSEC) for server in getattr(radius, role)}
        if len(over_tls) > 1:
            problems.append(f"radius.{role}: mixes RadSec and UDP; a TLS failure would fall back to UDP")
    servers = [server.startswith(RADSEC) for server in (*radius.auth, *radius.acct)]
    if any(servers):
        problems += [
            f"radius.{key}: is missing; RadSec needs certificates on both sides"
            for key in ("certificate", "ca_file")
            if not getattr(radius, key)
        ]
        for key in ("certificate", "private_key", "ca_file"):
            problems += _missing_file(config, f"radius.{key}", getattr(radius, key))
    if not all(servers) and not radius.secret_file and not os.environ.get("NOMAD_RADIUS_SECRET"):
        problems.append("radius.secret_file: is missing; name a file, or set NOMAD_RADIUS_SECRET")
    return problems


def _check_orders(radius: Radius) -> list[str]:
    """The RFC 5176 listeners: where, for whom, with which secret or certificate."""
    problems = []
    keys = ("disconnect_listen", "disconnect_radsec_listen")
    for key in keys:
        if text := getattr(radius, key):
            try:
                host, _ = split_host_port(text, DISCONNECT_PORT)
                ipaddress.ip_address(host)
            except ValueError as error:
                problems.append(f"radius.{key}: {error}; write address:port, as in '127.0.0.1:3799'")
    listens = any(getattr(radius, key) for key in keys)
    if listens and not radius.disconnect_clients:
        problems.append("radius.disconnect_clients: is empty; name who may disconnect, as in '127.0.0.1'")
    elif radius.disconnect_clients and not listens:
        problems.append(
            "radius.disconnect_clients: have no effect without radius.disconnect_listen, as in '127.0.0.1:3799'"
        )
    for index, text in enumerate(radius.disconnect_clients):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            problems.append(f"radius.disconnect_clients[{index}]: '{text}' is no address or network")
    if radius.disconnect_radsec_listen and not (radius.certificate and radius.ca_file):
        problems.append("radius.disconnect_radsec_listen: needs radius.certificate and radius.ca_file")
    if radius.disconnect_from_servers and not any(server.startswith(RADSEC) for server in radius.auth):
        problems.append("radius.disconnect_from_servers: has no effect without a 'radsec:' server in radius.auth")
    over_tls = all(server.startswith(RADSEC) for server in (*radius.auth, *radius.acct))  # or the embedded server
    secret = radius.secret_file or os.environ.get("NOMAD_RADIUS_SECRET")
    if radius.disconnect_listen and over_tls and not secret:
        problems.append("radius.secret_file: is missing; disconnect clients need a secret (or NOMAD_RADIUS_SECRET)")
    return problems


def _check_accounting(config: Config) -> list[str]:
    table = config.accounting
    problems = []
    if table.sql and not re.match(r"(sqlite|postgres(ql)?)(\+\w+)?://", table.sql):
        problems.append("accounting.sql: is no database; write 'sqlite:///radacct.db' or 'postgresql://user@host/db'")
    if table.interim_interval_s < 0:
        problems.append("accounting.interim_interval_s: is seconds; 0 for no Interim-Updates")
    return problems + _missing_file(config, "accounting.sql_password_file", table.sql_password_file)


def _check_pbx(config: Config) -> list[str]:
    problems = []
    if not config.pbx:
        problems.append("pbx: no [[pbx]] is configured; calls need one")
    for index, pbx in enumerate(config.pbx):
        if not re.match(r"sips?:[^@]+$", pbx.uri):
            problems.append(f"pbx[{index}].uri: '{pbx.uri}' is no URI of a host; write 'sip:127.0.0.1:5070'")
        try:
            re.compile(pbx.extensions)
        except re.error as error:
            problems.append(f"pbx[{index}].extensions: no regular expression: {error}")
        for place, text in enumerate(pbx.trusted):
            try:
                bare = "/" in text or (text.count(":") > 1 and "]" not in text)
                network = ipaddress.ip_network(text if bare else split_host_port(text, 0)[0], strict=False)
                if _is_mapped(network):
                    problems.append(f"pbx[{index}].trusted[{place}]: '{text}' {MAPPED}")
                if not network.prefixlen:
                    problems.append(f"pbx[{index}].trusted[{place}]: '{text}' is everybody; name the PBX's addresses")
            except ValueError:
                problems.append(f"pbx[{index}].trusted[{place}]: '{text}' is no address, address:port or network")
        if pbx.diversion not in ("", "diversion", "history-info"):
            problems.append(
                f"pbx[{index}].diversion: '{pbx.diversion}' is neither 'diversion' nor 'history-info' nor ''"
            )
        problems += _missing_file(config, f"pbx[{index}].password_file", pbx.password_file)
    return problems


def _is_mapped(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """IPv4 in IPv6 clothes, in which no peer ever comes: IPv6 sockets take no IPv4."""
    return isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None


def _check_admin(config: Config) -> list[str]:
    problems = []
    if config.media.relay != "off":
        problems.append(f"media.relay: '{config.media.relay}' is not there yet; this version knows 'off'")
    for place, text in enumerate(config.guard.never_ban):
        try:
            if _is_mapped(ipaddress.ip_network(text, strict=False)):
                problems.append(f"guard.never_ban[{place}]: '{text}' {MAPPED}")
        except ValueError:
            problems.append(f"guard.never_ban[{place}]: '{text}' is no address or network")
    problems += [*_check_guard(config), *_check_fraud(config), *_check_alarms(config)]
    problems += [
        f"events.{key}: must be above 0; events.enabled = false switches such requests off"
        for key in ("max_subscriptions", "max_per_person", "requests_per_minute")
        if getattr(config.events, key) <= 0
    ]
    if config.admin.listen:
        try:
            host, _ = split_host_port(config.admin.listen, 8080)
        except ValueError as error:
            return [*problems, f"admin.listen: {error}"]
        if host not in ("127.0.0.1", "::1", "localhost") and not (
            config.admin.token_file or os.environ.get("NOMAD_ADMIN_TOKEN")
        ):
            problems.append("admin.listen: is not loopback; then admin.token_file (or NOMAD_ADMIN_TOKEN) is needed")
    problems += _missing_file(config, "admin.token_file", config.admin.token_file)
    return problems + _missing_file(config, "policy", config.policy) + _missing_file(config, "geoip", config.geoip)


def _check_guard(config: Config) -> list[str]:
    guard = config.guard
    problems = [
        f"guard.{key}: must be above 0"
        for key in (
            "auth_failures", "malformed", "window_s", "ban_s", "suspect_s", "suspect_pause_s", "command_timeout_s",
        )
        if getattr(guard, key) <= 0
    ]  # fmt: skip
    problems += [f"guard.{key}: is below 0" for key in ("requests_per_s", "refusal_s") if getattr(guard, key) < 0]
    for key in ("nft_set", "nft_set_v6"):
        text = getattr(guard, key)
        if text and not re.fullmatch(r"(ip|ip6|inet) [A-Za-z_][A-Za-z0-9_]* [A-Za-z_][A-Za-z0-9_]*", text):
            problems.append(f"guard.{key}: '{text}' is no set; write family, table and set, as in 'inet filter nomad'")
    if guard.command and (guard.nft_set or guard.nft_set_v6):
        problems.append("guard.command: takes the place of guard.nft_set; name one of them")
    return problems + _missing_file(config, "guard.scanners", guard.scanners)


def _check_fraud(config: Config) -> list[str]:
    problems = []
    for rule in FRAUD_RULES:
        watch: Watch = getattr(config.fraud, rule)
        unknown = sorted(set(watch.actions) - set(FRAUD_ACTIONS))
        problems += [f"fraud.{rule}.actions: '{word}' is not one of {', '.join(FRAUD_ACTIONS)}" for word in unknown]
        if not 1 <= watch.limit <= MAX_FRAUD_LIMIT:
            problems.append(f"fraud.{rule}.limit: must be from 1 to {MAX_FRAUD_LIMIT}")
        if watch.within_s <= 0:
            problems.append(f"fraud.{rule}.within_s: must be above 0")
    if config.fraud.short_call_s <= 0:
        problems.append("fraud.short_call_s: must be above 0; to watch no short calls: short_calls = { actions = [] }")
    if config.fraud.directory_bind_dn:
        urls = (config.directory.url,) if isinstance(config.directory.url, str) else config.directory.url
        if not urls or not all(url.startswith(("ldap://", "ldaps://")) for url in urls):
            problems.append("fraud.directory_bind_dn: needs directory.url to name an LDAP directory")
        if not config.fraud.directory_password_file and not os.environ.get("NOMAD_FRAUD_BIND_PASSWORD"):
            problems.append("fraud.directory_password_file: is missing; name a file, or set NOMAD_FRAUD_BIND_PASSWORD")
    return problems + _missing_file(config, "fraud.directory_password_file", config.fraud.directory_password_file)


def _check_alarms(config: Config) -> list[str]:
    alarms = config.alarms
    problems = []
    if alarms.webhook and not re.match(r"https?://[^/\s]+", alarms.webhook):
        problems.append(f"alarms.webhook: '{alarms.webhook}' is no address; write it as in 'https://host/path'")
    if alarms.smtp:
        try:
            host, _ = split_host_port(alarms.smtp, 25)
        except ValueError as error:
            problems.append(f"alarms.smtp: {error}")
        else:
            if alarms.smtp_security == "none" and not is_loopback(host):
                problems.append("alarms.smtp_security: 'none' is for loopback addresses; use 'starttls' or 'tls'")
        if alarms.smtp_security not in ("starttls", "tls", "none"):
            problems.append(f"alarms.smtp_security: '{alarms.smtp_security}' is none of 'starttls', 'tls', 'none'")
        if not alarms.mail_from or not alarms.mail_to:
            problems.append("alarms.mail_from, alarms.mail_to: are needed with alarms.smtp")
    elif alarms.mail_to:
        problems.append("alarms.mail_to: has no effect without alarms.smtp, as in 'mail.inria.example:587'")
    if alarms.timeout_s <= 0 or alarms.tries < 1:
        problems.append("alarms.timeout_s, alarms.tries: must be above 0")
    for key in ("webhook_secret_file", "smtp_password_file", "smtp_ca_file"):
        problems += _missing_file(config, f"alarms.{key}", getattr(alarms, key))
    return problems


def _missing_file(config: Config, key: str, name: str) -> list[str]:
    if not name or config.path(name).is_file():
        return []
    return [f"{key}: file {config.path(name)} does not exist"]
