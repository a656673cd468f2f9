"""What the configuration names, read in: policy, PBXs, nonce key, database; and the check of all of it."""

from __future__ import annotations

import difflib
import logging
import resource
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nomad import config as configuration
from nomad import log
from nomad.clock import Clock
from nomad.config import Config, ConfigError, secret
from nomad.edge import scanners
from nomad.edge.policy import EMERGENCY, LOCAL, Ruleset, compile_policy, default_ruleset
from nomad.edge.scanners import Scanners
from nomad.edge.trunks import Trunk, Trunks, make_trunk
from nomad.geoip import GeoIp, NoCountries
from nomad.policies import fingerprint, read_policy
from nomad.ports import Countries, PolicyStore, PolicyView, Unavailable
from nomad.sip.errors import SipError
from nomad.sip.uri import Uri
from nomad.transport.connection import StreamLimits
from nomad.transport.endpoint import source_address
from nomad.transport.resolver import DnsResolver
from nomad.transport.tls import ClientTls, NamedCertificate, ServerTls

logger = logging.getLogger(__name__)

OTHER_FILES = 256  # open besides peers' connections: listeners, RADIUS, databases, the admin API


def load_ruleset(config: Config) -> Ruleset:
    """The policy of a configuration. Raises `ConfigError`."""
    if not config.policy:
        return default_ruleset()
    path = config.path(config.policy)
    text = read_policy(path)
    return replace(compile_policy(text, str(path)), sha=fingerprint(text))


async def identify(ruleset: Ruleset, store: PolicyStore) -> Ruleset:
    """The same rules, with the number under which their text was applied; without one when it never was."""
    try:
        found = await store.find(ruleset.sha) if ruleset.sha else None
    except Unavailable as error:
        log.event(logger, "store-failed", level=logging.ERROR, what="policy versions", error=str(error))
        return ruleset
    return replace(ruleset, version=str(found.number)) if found else ruleset


def view_of(ruleset: Ruleset) -> PolicyView:
    """A ruleset as people see it."""
    version = ruleset.version or ("unversioned" if ruleset.sha else "built-in")
    return PolicyView(version, ruleset.sha, ruleset.source)


def load_countries(config: Config) -> Countries:
    """Where addresses are, as far as the configuration names a file. Raises `ConfigError`."""
    return GeoIp(config.path(config.geoip)) if config.geoip else NoCountries()


async def load_trunks(config: Config, resolver: DnsResolver, *, known: Trunks | None = None) -> list[Trunk]:
    """The PBXs of a configuration; one that does not resolve is trusted as it was `known`, or as it is listed."""
    trunks = []
    before = {trunk.uri.text: trunk.sources for trunk in known.all} if known else {}
    for pbx in config.pbx:
        try:
            places = {(target.host, target.port) for target in await resolver.resolve(Uri.parse(pbx.uri))}
        except SipError as error:
            raise ConfigError(f"pbx {pbx.name}: uri: '{pbx.uri}' is no SIP URI: {error.text}") from None
        except Unavailable as error:
            text = Uri.parse(pbx.uri).text
            # One that is known is asked for again and again
            level = logging.DEBUG if text in before else logging.WARNING
            log.event(logger, "pbx-unresolved", level=level, pbx=pbx.name, why=str(error))
            places = set(before.get(text, ()))
        password = secret(config, pbx.password_file, "NOMAD_PBX_PASSWORD").decode()
        trunks.append(make_trunk(pbx, places=places, password=password))
    return trunks


def load_scanners(config: Config) -> Scanners:
    """The signatures of scanning tools. Raises `ConfigError`."""
    name = config.guard.scanners
    path = config.path(name) if name else Path(scanners.__file__).with_suffix(".toml")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return Scanners.parse(text, str(path))


async def targets_of(uri: Uri) -> list[str]:
    """Where a SIP URI leads now, in the order to try, for people. Raises `Unavailable`."""
    found = await DnsResolver(Clock()).resolve(uri)
    return [f"{each.transport}:{f'[{each.host}]' if ':' in each.host else each.host}:{each.port}" for each in found]


def trusted_addresses(trunks: Trunks) -> list[str]:
    """Networks and addresses of all PBXs."""
    found = {host for trunk in trunks.all for host, _ in trunk.sources}
    return [*sorted(found), *(str(network) for trunk in trunks.all for network in trunk.networks)]


def store_url(config: Config) -> str:
    """The store URL; a relative SQLite file starts at the folder of the configuration."""
    scheme, found, name = config.store.url.partition(":///")
    if found and scheme.startswith("sqlite") and name and name != ":memory:" and not name.startswith("/"):
        return f"{scheme}:///{config.path(name)}"
    return config.store.url


def nonce_key(config: Config) -> bytes:
    """The key that signs nonces, from its file or made now. Raises `ConfigError`."""
    if not config.sip.nonce_key_file:
        return secrets.token_bytes(32)
    try:
        key = config.path(config.sip.nonce_key_file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{config.path(config.sip.nonce_key_file)}: cannot be read: {error.strerror}") from None
    if len(key) < 32:
        raise ConfigError(f"{config.path(config.sip.nonce_key_file)}: holds {len(key)} bytes; at least 32 are needed")
    return key


def stream_limits(config: Config) -> StreamLimits:
    """What peers may cost over connections; never all files that may be open (`process.py` asks for as many)."""
    sip = config.sip
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = sip.max_connections if files == resource.RLIM_INFINITY else max(1, files - OTHER_FILES)
    return StreamLimits(
        connections=min(sip.max_connections, spare),
        per_address=sip.max_connections_per_address,
        handshake_s=sip.handshake_s,
        first_message_s=sip.first_message_s,
        message_s=sip.message_s,
        idle_s=sip.idle_s,
    )


def server_tls(config: Config) -> ServerTls | None:
    """What phones are shown over TLS, None without a certificate. Raises `Unavailable`."""
    sip = config.sip
    if not sip.certificate:
        return None
    return ServerTls(
        config.path(sip.certificate),
        _path(config, sip.private_key),
        named=[
            NamedCertificate(each.names, config.path(each.certificate), _path(config, each.private_key))
            for each in sip.certificates
        ],
        client_ca=_path(config, sip.client_ca_file) if sip.client_certificates != "off" else None,
        demand_client=sip.client_certificates == "required",
    )


def client_tls(config: Config) -> ClientTls:
    """What the edge trusts and shows on connections that it opens. Raises `Unavailable`."""
    sip = config.sip
    return ClientTls(
        _path(config, sip.ca_file),
        certificate=_path(config, sip.pbx_certificate),
        key=_path(config, sip.pbx_private_key),
    )


def _path(config: Config, name: str) -> Path | None:
    return config.path(name) if name else None


def inside_addresses(trunks: Trunks, bound: list[tuple[str, str, int]]) -> dict[str, str]:
    """Which of our addresses each PBX sees: never the one that is advertised to the outside.

    Those of a PBX are the ones in its `uri` and those that `trusted` lists one by one.
    """
    versions = {6 if ":" in host else 4 for _, host, _ in bound}
    hosts = {host for trunk in trunks.all for host in trunk.addresses if (6 if ":" in host else 4) in versions}
    return {host: source_address(host, 5060) for host in sorted(hosts)}


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check found; with a problem nothing starts, a warning is legal and hardly meant."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check(path: Path) -> Findings:
    """What is wrong with a configuration and its policy, and what is doubtful."""
    try:
        config = configuration.load(path)
        ruleset = load_ruleset(config)
        load_scanners(config)
        load_countries(config)
    except ConfigError as error:
        return Findings(problems=tuple(str(error).splitlines()))
    return Findings(warnings=policy_warnings(config, ruleset))


def policy_warnings(config: Config, ruleset: Ruleset) -> tuple[str, ...]:
    """What is doubtful in a policy, by itself and with this configuration."""
    warnings = (*ruleset.warnings, *_unwatched(config, ruleset))
    if not ruleset.needs_country or config.geoip:
        return warnings
    text = "ask for countries, but geoip in nomad.toml names no file: addresses of the Internet are in no known country"
    names = ", ".join(group.name for group in ruleset.groups if group.countries - {LOCAL})
    return (*warnings, f"{ruleset.source}: groups {names} {text}") if names else warnings


def _unwatched(config: Config, ruleset: Ruleset) -> Iterator[str]:
    """Classes that the watch over accounts is to look at and that the policy does not have."""
    known, watched = ruleset.class_names, config.fraud.expensive
    if watched == configuration.Fraud().expensive:
        if not known & set(watched) and (others := sorted(known - {EMERGENCY, "internal", *ruleset.deny.texts})):
            yield (
                f"fraud.expensive: {ruleset.source} has no class {' or '.join(watched)}, so no call is watched for "
                f"what it costs; name those that cost money of {', '.join(others)}, or [] for none"
            )
        return
    for name in watched:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            mend = f"did you mean '{near[0]}'?" if near else f"classes are {', '.join(sorted(known))}"
            yield f"fraud.expensive: {ruleset.source} has no class '{name}', so it is not watched; {mend}"
