"""The tables of `nomad.toml` as frozen structs.

Every setting says whether a reload takes it up; those marked (restart) need a new process.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

Words = str | tuple[str, ...]


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


class Certificate(Struct, frozen=True):
    """One more certificate for tls and wss, shown to clients that ask for one of its names (SNI)."""

    names: tuple[str, ...]
    """Names that clients ask for; "*.inria.example" stands for each name right below."""
    certificate: str
    """PEM chain; reloaded when the file changes."""
    private_key: str = ""
    """PEM key of `certificate`; "" when the certificate's file holds it."""


class Sip(Struct, frozen=True):
    """The SIP endpoint."""

    listen: tuple[str, ...] = ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")
    """transport:address:port (restart). IPv6 addresses in brackets."""
    advertise: str = ""
    """Address or name that peers outside see, when it is not the one listened on (restart)."""
    certificate: str = ""
    """PEM chain for tls and wss; read again when the file changes, but not another file (restart)."""
    private_key: str = ""
    """PEM key of `certificate`, alike; "" when the certificate's file holds it (restart)."""
    certificates: tuple[Certificate, ...] = ()
    """More certificates, by the name that the client asks for (restart, but for what is in the files)."""
    client_certificates: str = "off"
    """Whether phones show a certificate of their own over tls and wss: "off"; "optional", who shows one must have it
    from `client_ca_file`; "required", nobody connects without. A lock before the other one: digest is asked all the
    same, and whose certificate it is says nothing about who calls (restart)."""
    client_ca_file: str = ""
    """Authorities that sign phones' certificates; read again when the file changes, but not another file (restart)."""
    nameservers: tuple[str, ...] = ()
    """address or address:port of the name servers that know the PBX; empty: those of the system (restart)."""
    ca_file: str = ""
    """Authorities for connections that the edge opens, to a PBX over TLS; "" means those of the system. Read again when
    the file changes, but not another file (restart)."""
    pbx_certificate: str = ""
    """PEM chain that the edge shows to a PBX over TLS that asks for one; read again when the file changes, but not
    another file (restart)."""
    pbx_private_key: str = ""
    """PEM key of `pbx_certificate`, alike; "" when the certificate's file holds it (restart)."""
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
    """How long a nonce may be used (restart)."""
    nonce_key_file: str = ""
    """At least 32 random bytes that sign nonces and temporary GRUUs; "" makes a new key at each start (phones see one
    `stale=true`, and temporary GRUUs given before mean nothing any more) (restart)."""
    min_expires_s: int = 60
    """Shortest registration; shorter ones get 423 (RFC 3261 10.2.8; restart)."""
    max_expires_s: int = 7200
    """Longest registration; longer ones are shortened (restart)."""
    default_expires_s: int = 3600
    """Registration without a wish of its own (restart)."""
    min_session_expires_s: int = 90
    """Shortest session interval; phones that want a shorter one get 422 (RFC 4028, restart)."""
    session_expires_s: int = 1800
    """Session timer that the edge asks for in a call whose caller asks for none (RFC 4028 8.1, restart). 0: none."""
    dialog_check_s: int = 300
    """How often both ends of a call without session timer are asked whether they still have it (restart). 0: never."""
    timer_c_s: float = 180.0
    """How long an INVITE may ring (RFC 3261 16.6 step 11; restart)."""
    max_transactions: int = 200_000
    """More than this many at once: new requests get 503 (restart)."""
    max_connections: int = 10_000
    """Connections of stream transports together, as far as the system allows so many open files (restart)."""
    max_connections_per_address: int = 100
    """Connections from one address (restart)."""
    handshake_s: float = 10.0
    """How long a TLS handshake may take (restart)."""
    first_message_s: float = 30.0
    """How long a new connection may take until its first whole message (restart)."""
    message_s: float = 10.0
    """How long a message may take from its first byte to its last (restart)."""
    idle_s: float = 7500.0
    """How long a connection may be without a message; longer than `max_expires_s`, or phones have to come again
    (restart)."""


class Radius(Struct, frozen=True):
    """RADIUS servers. Without any, Nomad starts its own server on loopback, over [directory]."""

    auth: tuple[str, ...] = ()
    """host:port of authentication servers, in order of preference; "radsec:host:port" for RADIUS over TLS. Neither
    these nor `acct`: the embedded server (restart)."""
    acct: tuple[str, ...] = ()
    """host:port of accounting servers, in order of preference (restart)."""
    secret_file: str = ""
    """File with the secret shared with the servers and with who may disconnect; or NOMAD_RADIUS_SECRET (restart)."""
    dialect: str = "sterman"
    """Digest attributes: "sterman" (206, 207) or "rfc5090" (103 to 122; restart)."""
    verify: str = "server"
    """Who checks digests: "server", or "edge" for servers that know MD5 only: they then tell the edge a person's HA1,
    so all of them must be at loopback addresses or behind "radsec:" (restart)."""
    load_share: bool = False
    """Spread requests over all servers that are up, instead of preferring the first (restart)."""
    timeout_s: float = 2.0
    """How long one request may take over all tries and servers (restart)."""
    certificate: str = ""
    """PEM certificate that we show to RadSec servers (RFC 6614). A reload reads it, the key and the authority
    again, but takes no other files (restart)."""
    private_key: str = ""
    """PEM key of `certificate`; "" when the certificate's file holds it (restart)."""
    ca_file: str = ""
    """Authority that signs the RadSec servers' certificates (restart)."""
    nas_identifier: str = ""
    """NAS-Identifier; "" means the domain (restart)."""
    disconnect_listen: str = ""
    """address:port of the RFC 5176 listener; "" for none (restart)."""
    disconnect_clients: tuple[str, ...] = ()
    """Addresses and networks that may send Disconnect and CoA (restart)."""
    disconnect_radsec_listen: str = ""
    """address:port of the same over TLS, for `disconnect_clients` with a certificate that `ca_file` signed; "" for none
    (restart)."""
    disconnect_certificate_names: tuple[str, ...] = ()
    """DNS names of which such a certificate must have one; empty: any (restart)."""
    disconnect_from_servers: bool = False
    """Whether RadSec servers of `auth` may order on the connection that we open to them, and keep open (restart)."""
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
    allow: Words = "sipAllowClass"
    """Classes of numbers that a person may call at most, within those of the policy group."""
    max_calls: Words = "sipMaxCalls"
    """Calls at once, within what the policy group allows."""


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
    diversion: str = "diversion"
    """How the PBX is told who sent a call on to another number: "diversion" (RFC 5806), "history-info" (RFC 7044) or
    ""."""


class Media(Struct, frozen=True):
    """Media relay."""

    relay: str = "off"
    """"off": media flows between the phone and the PBX directly (restart)."""


class Store(Struct, frozen=True):
    """Where records are kept."""

    url: str = "sqlite:///nomad.db"
    """SQLAlchemy URL of call records, versions of the policy, locks and the registration snapshot (restart)."""
    spool: str = "nomad-spool.db"
    """SQLite file of this node: accounting records that no server has acknowledged yet, calls in progress, call records
    on their way to `url` (restart)."""


class Accounting(Struct, frozen=True):
    """What is accounted."""

    refused: bool = False
    """Whether a refused or failed attempt is sent to RADIUS too, as a Stop of 0 seconds (restart)."""
    interim_interval_s: int = 0
    """Interim-Update period of a call; 0 for none, unless RADIUS asks for one (RFC 2869 5.16)."""
    detail: str = "nomad-accounting.jsonl"
    """File of the embedded RADIUS server, one accounting record a line; "" for none (restart)."""
    sql: str = ""
    """Database of the embedded RADIUS server for the table `radacct`, sqlite:///file.db or
    postgresql://user@host/database; "" for none (restart)."""
    sql_password_file: str = ""
    """File with that database's password; or NOMAD_ACCOUNTING_PASSWORD (restart)."""


class Guard(Struct, frozen=True):
    """Protection from what the Internet sends."""

    never_ban: tuple[str, ...] = ()
    """Addresses and networks that are never banned; the PBX's own never are."""
    auth_failures: int = 20
    """Refused credentials from one address within `window_s` that ban it."""
    malformed: int = 50
    """Malformed messages over one address's connections within `window_s` that ban it; over UDP they may be forged and
    slow it down only."""
    scanners: str = ""
    """File of scanner signatures in place of the built-in ones, which are `nomad/edge/scanners.toml`."""
    window_s: float = 60.0
    ban_s: float = 60.0
    """First ban; each further ban of the same address lasts twice as long, up to a day."""
    suspect_s: float = 60.0
    """So long an address is slowed down for what may be forged (a scanner's User-Agent over UDP)."""
    suspect_pause_s: float = 2.0
    """One message in so many seconds is looked at of an address that is slowed down."""
    refusal_s: float = 0.1
    """Refused credentials are answered once to twice this time after they came, at common moments, so that the time
    tells nothing; 0: at once (restart)."""
    nft_set: str = ""
    """nftables set that bans are put into, as in "inet filter nomad" (restart). Flags: timeout; IPv4 addresses."""
    nft_set_v6: str = ""
    """The same for IPv6 networks; flags: timeout, interval (restart)."""
    command: tuple[str, ...] = ()
    """Program that is told of bans in place of nftables, with the arguments `ban ADDRESS SECONDS` or `unban ADDRESS`
    behind those given (restart)."""
    command_timeout_s: float = 5.0
    """How long `nft` or the program may take (restart)."""
    requests_per_s: float = 200.0
    """Sustained requests of one address; more are dropped. 0 switches it off."""
    burst: int = 2000
    """Requests of one address that may come at once."""


class Events(Struct, frozen=True):
    """Requests outside of calls: subscriptions and their news, presence, messages."""

    enabled: bool = True
    """Whether SUBSCRIBE, NOTIFY, PUBLISH, MESSAGE and REFER pass outside of calls; false: 405."""
    max_subscriptions: int = 50_000
    """Subscriptions at once; more get 503."""
    max_per_person: int = 100
    """Subscriptions of one person at once; more get 403. A phone has one for each lamp."""
    requests_per_minute: int = 240
    """Such requests of one person; more get 503. Refreshes do not count."""


class Watch(Struct, frozen=True):
    """One thing that is watched of accounts, and what follows."""

    actions: tuple[str, ...] = ("warn",)
    """Of "warn" (log, metric, audit log: always), "tell-admin", "refuse" (this call), "reregister", "end-calls" and
    "lock"; empty: not watched."""
    limit: int = 1
    """How many are too many."""
    within_s: float = 600.0
    """So long each counts."""


STOP = ("lock", "end-calls", "tell-admin")


class Fraud(Struct, frozen=True):
    """Accounts that do not behave like their people. Not a part of the policy: it judges people, not calls."""

    expensive: tuple[str, ...] = ("international", "premium")
    """Classes of the policy whose numbers cost money."""
    short_call_s: float = 30.0
    """A call to an expensive class that ends before is a short one; one that nobody answers too, once a number."""
    learn_calls: int = 20
    """Calls of a person without which there is no habit."""
    learn_days: int = 7
    """Days since the first of them."""
    quiet_s: float = 3600.0
    """A warning about the same person and rule is not repeated for so long."""
    directory_bind_dn: str = ""
    """LDAP account that may write the first of `directory.attributes.disabled`: a lock is then one in the directory
    too, for every service of it; "" for none (restart)."""
    directory_password_file: str = ""
    """File with its password; or NOMAD_FRAUD_BIND_PASSWORD."""
    new_country: Watch = Watch(actions=("warn", "tell-admin"))
    """A login from a country that the person was never in; needs `geoip`."""
    short_calls: Watch = Watch(actions=STOP, limit=10, within_s=600.0)
    """So many short calls to expensive classes within the time."""
    destinations: Watch = Watch(actions=STOP, limit=5)
    """More expensive numbers than this at once, or twice as many calls. A transfer counts for `within_s`."""
    unusual: Watch = Watch(actions=("warn",))
    """A call to an expensive class that the person never used, or around an hour of working days or weekends at which
    the person never called."""
    failures: Watch = Watch(actions=("warn", "tell-admin"), limit=50, within_s=3600.0)
    """Refused logins of an account. Anybody may cause them: whoever locks here lets strangers lock people out."""
    refused_calls: Watch = Watch(actions=("warn", "tell-admin"), limit=20, within_s=600.0)
    """Calls that the policy refused."""


class Alarms(Struct, frozen=True):
    """Where "tell-admin" goes (restart)."""

    webhook: str = ""
    """http:// or https:// address that gets a JSON object by POST."""
    webhook_secret_file: str = ""
    """Key of X-Nomad-Signature, the HMAC-SHA256 of the body in hex; or NOMAD_WEBHOOK_SECRET."""
    smtp: str = ""
    """host:port of a mail server."""
    smtp_security: str = "starttls"
    """"starttls", "tls" or "none" (loopback addresses only)."""
    smtp_ca_file: str = ""
    """Certificates that sign the mail server's; "" means those of the system."""
    smtp_user: str = ""
    """Login at the mail server; "" for none."""
    smtp_password_file: str = ""
    """File with the password; or NOMAD_SMTP_PASSWORD."""
    mail_from: str = ""
    mail_to: tuple[str, ...] = ()
    timeout_s: float = 10.0
    """How long one try may take."""
    tries: int = 5
    """How often one alarm is tried, with pauses that double from 1 s on."""


class Admin(Struct, frozen=True):
    """Console API, /healthz, /metrics, /metrics/users."""

    listen: str = "127.0.0.1:8080"
    """host:port (restart); "" for none."""
    token_file: str = ""
    """Bearer token for /api; or NOMAD_ADMIN_TOKEN. Needed when `listen` is not loopback (restart)."""
    max_metric_users: int = 5000
    """Users shown at /metrics/users; the rest count as "other" (restart)."""
    pseudonymise_users: bool = False
    """Show hashes, other ones after each start, instead of names at /metrics/users (restart)."""


class Config(Struct, frozen=True):
    """`nomad.toml`."""

    domain: str
    """SIP domain, digest realm and mail domain (restart)."""
    aliases: tuple[str, ...] = ()
    """More domains that are ours (restart)."""
    policy: str = ""
    """Policy file; "" allows internal and emergency numbers only."""
    geoip: str = ""
    """MaxMind database of countries (.mmdb), for the `countries` of the policy."""
    sip: Sip = Sip()
    radius: Radius | None = None
    directory: DirectoryTable = DirectoryTable()
    pbx: tuple[Pbx, ...] = ()
    media: Media = Media()
    store: Store = Store()
    accounting: Accounting = Accounting()
    guard: Guard = Guard()
    events: Events = Events()
    fraud: Fraud = Fraud()
    alarms: Alarms = Alarms()
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
