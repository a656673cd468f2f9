"""`nomad.toml` as frozen structs: load, check, explain. Unknown keys are refused; secrets come from files or NOMAD_*.

Every setting says whether a reload takes it up; those marked (restart) need a new process. Does not start anything.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
ALGORITHMS = ("MD5", "SHA-256", "SHA-512-256")
DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 5062, "wss": 5063}
UNKNOWN_FIELD = re.compile(r"Object contains unknown field `([^`]*)`")
AT_PATH = re.compile(r" - at `([^`]*)`")
DISCONNECT_PORT = 3799  # RFC 5176 2.1
RADSEC = "radsec:"  # before a RADIUS server that is reached over TLS
T = TypeVar("T")
Words = str | tuple[str, ...]


class ConfigError(Exception):
    """A configuration that cannot be used; `str()` is for humans: file, line, key path and the mend."""


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class DigestRule(Struct, frozen=True):
    """What some phones or people are offered instead of `sip.digest`; rules with `users` first, then as they stand."""

    offer: tuple[str, ...]
    """Challenges, in order."""
    user_agent: str = ""
    """Regular expression found in the User-Agent, whatever the letter case; "" fits every phone."""
    users: tuple[str, ...] = ()
    """Logins or addresses; empty: everybody. These people get in with nothing else than `offer`."""


class Sip(Struct, frozen=True):
    """The SIP endpoint."""

    listen: tuple[str, ...] = ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")
    """transport:address:port (restart). IPv6 addresses in brackets."""
    advertise: str = ""
    """Address or name that peers outside see, when it is not the one listened on (restart)."""
    certificate: str = ""
    """PEM chain for tls and wss; reloaded when the file changes."""
    private_key: str = ""
    """PEM key of `certificate`; "" when the certificate's file holds it."""
    ca_file: str = ""
    """Authorities for connections that the edge opens, to a PBX over TLS; "" means those of the system (restart)."""
    origins: tuple[str, ...] = ()
    """Origins that may open a WebSocket; empty: `https://` with the domain and its aliases (restart)."""
    digest: tuple[str, ...] = ()
    """Challenges to offer, in order (restart); phones take the first that they know. Empty: MD5, and SHA-256 first to
    phones that are known to take it, unless RADIUS servers are named (rlm_digest of FreeRADIUS knows MD5 only)."""
    digest_rule: tuple[DigestRule, ...] = ()
    """Other offers (restart). Empty: what is known of phones in the field, as far as `digest` names it."""
    digest_qop: tuple[str, ...] = ("auth",)
    """Quality of protection to offer: "auth", "auth-int" or both (restart)."""
    nonce_lifetime_s: int = 300
    """How long a nonce may be used."""
    nonce_key_file: str = ""
    """At least 32 random bytes that sign nonces; "" makes a new key at each start (phones see one `stale=true`)."""
    min_expires_s: int = 60
    """Shortest registration; shorter ones get 423 (RFC 3261 10.2.8)."""
    max_expires_s: int = 7200
    """Longest registration; longer ones are shortened."""
    default_expires_s: int = 3600
    """Registration without a wish of its own."""
    min_session_expires_s: int = 90
    """Shortest session interval; phones that want a shorter one get 422 (RFC 4028, restart)."""
    timer_c_s: float = 180.0
    """How long an INVITE may ring (RFC 3261 16.6 step 11)."""
    max_transactions: int = 200_000
    """More than this many at once: new requests get 503 (restart)."""
    max_connections: int = 10_000
    """Connections of stream transports together (restart)."""
    max_connections_per_address: int = 100
    """Connections from one address (restart)."""


class Radius(Struct, frozen=True):
    """RADIUS servers. Without any, Nomad starts its own server on loopback, over [directory]."""

    auth: tuple[str, ...] = ()
    """host:port of authentication servers, in order of preference; "radsec:host:port" for RADIUS over TLS. Neither
    these nor `acct`: the embedded server."""
    acct: tuple[str, ...] = ()
    """host:port of accounting servers, in order of preference."""
    secret_file: str = ""
    """File with the secret shared with the servers and with who may disconnect; or NOMAD_RADIUS_SECRET."""
    dialect: str = "sterman"
    """Digest attributes: "sterman" (206, 207) or "rfc5090" (103 to 122)."""
    timeout_s: float = 2.0
    """How long one request may take over all tries and servers."""
    certificate: str = ""
    """PEM certificate that we show to RadSec servers (RFC 6614; restart)."""
    private_key: str = ""
    """PEM key of `certificate`; "" when the certificate's file holds it (restart)."""
    ca_file: str = ""
    """Authority that signs the RadSec servers' certificates (restart)."""
    nas_identifier: str = ""
    """NAS-Identifier; "" means the domain."""
    disconnect_listen: str = ""
    """address:port of the RFC 5176 listener; "" for none (restart)."""
    disconnect_clients: tuple[str, ...] = ()
    """Addresses and networks that may send Disconnect and CoA (restart)."""
    disconnect_strict: bool = False
    """Refuse orders without Event-Timestamp or Message-Authenticator, so that none can be replayed (restart)."""
    verdict_cache_s: float = 300.0
    """So long a login that RADIUS accepted lets in the same credentials without asking again, where the server trusts
    the edge with Digest-HA1: the embedded one does. 0: every login is asked for (restart)."""
    verdict_outage_s: float = 3600.0
    """So long it does while no RADIUS server answers. 0: not at all (restart)."""

    @property
    def embedded(self) -> bool:
        """Whether the embedded server is meant."""
        return not self.auth and not self.acct


class Attributes(Struct, frozen=True):
    """What the directory calls things; of several names the first that has a value counts, of logins and groups all."""

    login: Words = ("uid", "mail")
    mail: Words = "mail"
    extension: Words = ("sipExtension", "telephoneNumber")
    password: Words = ("sipPassword", "userPassword")
    ha1: Words = "sipDigestHA1"
    groups: Words = ("memberOf", "sipPolicyGroup")
    display_name: Words = ("displayName", "cn")
    disabled: Words = ("sipDisabled", "pwdAccountLockedTime")


class DirectoryTable(Struct, frozen=True):
    """The directory that the embedded RADIUS server reads (restart)."""

    url: Words = ""
    """file:people.ldif, or one or more of ldap://host:port and ldaps://host:port, in order of preference."""
    base: str = ""
    bind_dn: str = ""
    bind_password_file: str = ""
    """File with the bind password; or the variable NOMAD_DIRECTORY_PASSWORD."""
    start_tls: bool = False
    ca_file: str = ""
    """Certificates that sign the LDAP server's; "" means those of the system."""
    attributes: Attributes = Attributes()


class Pbx(Struct, frozen=True):
    """One PBX behind the edge."""

    name: str
    uri: str
    """sip:host:port;transport=udp|tcp|tls"""
    trusted: tuple[str, ...] = ()
    """address, address:port or network whose requests come from the PBX; empty: the host and port of `uri`."""
    extensions: str = "[0-9]{4}"
    """Regular expression (whole number) of the PBX's own extensions; other numbers are sent to the first PBX."""
    username: str = ""
    """Digest user when the PBX challenges; "" when it trusts our address."""
    password_file: str = ""
    """File with the digest password; or the variable NOMAD_PBX_PASSWORD."""


class Media(Struct, frozen=True):
    """Media relay."""

    relay: str = "off"
    """"off": media flows between the phone and the PBX directly."""


class Store(Struct, frozen=True):
    """Where records are kept."""

    url: str = "sqlite:///nomad.db"
    """SQLAlchemy URL of call records, calls in progress and the registration snapshot (restart)."""
    spool: str = "nomad-spool.db"
    """SQLite file of accounting records that no server has acknowledged yet; stays on this node (restart)."""


class Accounting(Struct, frozen=True):
    """What is accounted."""

    refused: bool = False
    """Whether a refused or failed attempt is sent to RADIUS too, as a Stop of 0 seconds."""
    interim_interval_s: int = 0
    """Interim-Update period of a call; 0 for none, unless RADIUS asks for one (RFC 2869 5.16)."""
    detail: str = "nomad-accounting.jsonl"
    """File of the embedded RADIUS server, one accounting record a line (restart)."""


class Guard(Struct, frozen=True):
    """Protection from what the Internet sends."""

    never_ban: tuple[str, ...] = ()
    """Addresses and networks that are never banned; the PBX's own never are."""
    auth_failures: int = 20
    """Refused credentials from one address within `window_s` that ban it."""
    malformed: int = 50
    """Malformed messages from one address within `window_s` that ban it."""
    window_s: float = 60.0
    ban_s: float = 60.0
    """First ban; each further ban of the same address lasts twice as long, up to a day."""
    requests_per_s: float = 200.0
    """Sustained requests of one address; more are dropped. 0 switches it off."""
    burst: int = 2000
    """Requests of one address that may come at once."""


class Admin(Struct, frozen=True):
    """Console API, /healthz, /metrics, /metrics/users."""

    listen: str = "127.0.0.1:8080"
    """host:port (restart); "" for none."""
    token_file: str = ""
    """Bearer token for /api; or NOMAD_ADMIN_TOKEN. Needed when `listen` is not loopback."""
    max_metric_users: int = 5000
    """Users shown at /metrics/users; the rest count as "other"."""
    pseudonymise_users: bool = False
    """Show keyed hashes instead of names at /metrics/users."""


class Config(Struct, frozen=True):
    """`nomad.toml`."""

    domain: str
    """SIP domain, digest realm and mail domain."""
    aliases: tuple[str, ...] = ()
    policy: str = ""
    """Policy file; "" allows internal and emergency numbers only."""
    sip: Sip = Sip()
    radius: Radius | None = None
    directory: DirectoryTable = DirectoryTable()
    pbx: tuple[Pbx, ...] = ()
    media: Media = Media()
    store: Store = Store()
    accounting: Accounting = Accounting()
    guard: Guard = Guard()
    admin: Admin = Admin()
    folder: str = ""
    """Where relative file names start; set by `load` to the folder of the file."""

    def path(self, name: str) -> Path:
        """A file named in the configuration."""
        return Path(self.folder, name)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domain and its aliases, lower case."""
        return (self.domain.lower(), *(alias.lower() for alias in self.aliases))


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to listen on."""

    transport: str
    host: str
    port: int


def load(path: Path) -> Config:
    """Read and check a configuration file. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; give the file with -c") from None
    config = decode(text, str(path), Config)
    config = msgspec.structs.replace(config, folder=str(path.parent.resolve()))
    if problems := check(config):
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
    return config


def decode(text: str, name: str, kind: type[T]) -> T:
    """TOML text to a struct; `ConfigError` names `name`, the line, the key path and the mend."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}") from None
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), text, name, kind)) from None


def _explain(message: str, text: str, name: str, kind: type) -> str:
    """Turn msgspec's message into file, line, key path and mend."""
    found = AT_PATH.search(message)
    path = found.group(1) if found else "$"
    wrong = AT_PATH.sub("", message)
    mend = ""
    unknown = UNKNOWN_FIELD.match(wrong)
    if unknown:
        key = unknown.group(1)
        known = _keys_at(kind, path)
        near = difflib.get_close_matches(key, known, n=1)
        mend = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        path, wrong = f"{path}.{key}", f"unknown key '{key}'"
    line = line_of(text, path)
    where = f"{name}:{line}" if line else name
    shown = path.removeprefix("$.").removeprefix("$") or "top level"
    return f"{where}: {shown}: {wrong}" + (f"; {mend}" if mend else "")


def _keys_at(kind: Any, path: str) -> list[str]:
    """Keys that the table at a msgspec path may have."""
    for part in re.sub(r"\[[^\]]*\]", "", path.removeprefix("$")).split("."):
        if part:
            kind = next((f.type for f in msgspec.structs.fields(kind) if f.encode_name == part), kind)
        kind = _struct_in(kind)
    return [field.encode_name for field in msgspec.structs.fields(kind) if field.encode_name != "folder"]


def _struct_in(kind: Any) -> Any:
    """The struct type inside `X | None`, `tuple[X, ...]` or `dict[str, X]`."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    for inner in getattr(kind, "__args__", ()):
        found = _struct_in(inner)
        if isinstance(found, type) and issubclass(found, msgspec.Struct):
            return found
    return kind


def line_of(text: str, path: str) -> int:
    """Line number of a key path such as `$.sip.listen` or `$.group[1].allow`; 0 when it is not found.

    A reader's aid over the file's own layout ([table] and [[table]] headers), not a second TOML parser.
    """
    parts = re.findall(r"[^.\[\]]+", path.removeprefix("$"))
    names = [part for part in parts if not part.isdigit() and part != "..."]
    wanted = next((int(part) for part in parts if part.isdigit()), 0)
    table: list[str] = []
    seen: dict[str, int] = {}
    best = 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?", line)
        if header:
            table = [part.strip(" \"'") for part in header.group(1).split(".")]
            seen[".".join(table)] = seen.get(".".join(table), -1) + 1
        here = table
        key = re.match(r"\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*=", line)
        if key and not header:
            here = [*table, key.group(1)]
        same_entry = seen.get(".".join(table), 0) == wanted or not table
        if (header or key) and same_entry and here == names[: len(here)] and here:
            best = number
            if len(here) == len(names):
                return number
    return best


def parse_listen(text: str) -> Listen:
    """`transport:address[:port]` to its parts. Raises `ValueError` with the mend."""
    transport, _, rest = text.partition(":")
    if transport not in TRANSPORTS:
        raise ValueError(f"'{text}': transport must be one of {', '.join(TRANSPORTS)}, as in 'udp:0.0.0.0:5060'")
    if not rest:
        raise ValueError(f"'{text}': address missing, as in 'udp:0.0.0.0:5060'")
    host, port = split_host_port(rest, DEFAULT_PORTS[transport])
    return Listen(transport, host, port)


def split_host_port(text: str, default_port: int) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `host`. Raises `ValueError`."""
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?|([^:\[\]\s]+)(?::([0-9]{1,5}))?", text)
    if not found:
        raise ValueError(f"'{text}': write host:port, with an IPv6 address in brackets")
    host = found.group(1) or found.group(3)
    port = int(found.group(2) or found.group(4) or default_port)
    if port > 65535:
        raise ValueError(f"'{text}': port {port} is above 65535")
    return host, port


def secret(config: Config, file: str, variable: str) -> bytes:
    """A secret from its NOMAD_* variable or its file; b"" when neither is given. Raises `ConfigError`."""
    if value := os.environ.get(variable):
        return value.encode("utf-8", "surrogateescape")
    if not file:
        return b""
    try:
        text = config.path(file).read_bytes().strip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"{config.path(file)}: secret cannot be read: {error.strerror}") from None
    if not text:
        raise ConfigError(f"{config.path(file)}: is empty; write the secret into it")
    return text


def check(config: Config) -> list[str]:
    """What is wrong beyond types: `key path: what; mend` for each finding."""
    return [*_check_sip(config), *_check_radius(config), *_check_pbx(config), *_check_admin(config)]


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
        for key in ("nonce_lifetime_s", "timer_c_s", "min_expires_s", "max_transactions", "max_connections")
        if getattr(sip, key) <= 0
    ]
    if not sip.min_expires_s <= sip.default_expires_s <= sip.max_expires_s:
        problems.append("sip: min_expires_s <= default_expires_s <= max_expires_s must hold")
    for key in ("certificate", "private_key", "ca_file", "nonce_key_file"):
        problems += _missing_file(config, f"sip.{key}", getattr(sip, key))
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
    return problems + _check_protection(config, radius)


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
    """The RFC 5176 listener: where, for whom, with which secret."""
    if not radius.disconnect_listen:
        unused = "radius.disconnect_clients: have no effect without radius.disconnect_listen, as in '127.0.0.1:3799'"
        return [unused] if radius.disconnect_clients else []
    problems = []
    try:
        host, _ = split_host_port(radius.disconnect_listen, DISCONNECT_PORT)
        ipaddress.ip_address(host)
    except ValueError as error:
        problems.append(f"radius.disconnect_listen: {error}; write address:port, as in '127.0.0.1:3799'")
    if not radius.disconnect_clients:
        problems.append("radius.disconnect_clients: is empty; name who may disconnect, as in '127.0.0.1'")
    for index, text in enumerate(radius.disconnect_clients):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            problems.append(f"radius.disconnect_clients[{index}]: '{text}' is no address or network")
    over_tls = all(server.startswith(RADSEC) for server in (*radius.auth, *radius.acct))  # or the embedded server
    if over_tls and not radius.secret_file and not os.environ.get("NOMAD_RADIUS_SECRET"):
        problems.append("radius.secret_file: is missing; disconnect clients need a secret (or NOMAD_RADIUS_SECRET)")
    return problems


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
                if not network.prefixlen:
                    problems.append(f"pbx[{index}].trusted[{place}]: '{text}' is everybody; name the PBX's addresses")
            except ValueError:
                problems.append(f"pbx[{index}].trusted[{place}]: '{text}' is no address, address:port or network")
        problems += _missing_file(config, f"pbx[{index}].password_file", pbx.password_file)
    return problems


def _check_admin(config: Config) -> list[str]:
    problems = []
    if config.media.relay != "off":
        problems.append(f"media.relay: '{config.media.relay}' is not there yet; this version knows 'off'")
    for place, text in enumerate(config.guard.never_ban):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            problems.append(f"guard.never_ban[{place}]: '{text}' is no address or network")
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
    return problems + _missing_file(config, "policy", config.policy)


def _missing_file(config: Config, key: str, name: str) -> list[str]:
    if not name or config.path(name).is_file():
        return []
    return [f"{key}: file {config.path(name)} does not exist"]
