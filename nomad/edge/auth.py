"""Who sends a request: digest challenge, credentials to a proof, proof to an Identity (RFC 3261 22, RFC 7616).

The password check itself is `ports.Authenticator`'s; here are the nonces, the replay window and what the answer means.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nomad.clock import Clock
from nomad.edge.nonce import NonceSigner, NonceState
from nomad.edge.offers import Offers
from nomad.edge.sources import source_key
from nomad.metrics import Metrics
from nomad.ports import Authenticator, Grant, NonceWindow, Proof, Refusal, Unavailable
from nomad.sip.errors import Reject, SipError
from nomad.sip.grammar import quote
from nomad.sip.headers import Credentials
from nomad.sip.message import Request
from nomad.sip.uri import Uri

MAX_CREDENTIALS = 5  # Authorization headers looked at in one request
NONCE_COUNT = re.compile("[0-9A-Fa-f]{8}")
RETRY_AFTER_S = 5
REQUIRED = ("username", "nonce", "uri", "response")
HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
SESSION = "-SESS"


@dataclass(frozen=True, slots=True)
class Identity:
    """A person whose credentials were accepted, and the SIP addresses that are the person's (user@domain)."""

    grant: Grant
    addresses: frozenset[str]
    answer: str = ""  # Authentication-Info of the 200 to a REGISTER (RFC 7616 3.5), "" when there is nothing to say

    @property
    def user(self) -> str:
        """Canonical login."""
        return self.grant.user

    def owns(self, uri: Uri) -> bool:
        """Whether the person may call with, or register, this address."""
        return uri.address.lower() in self.addresses


@dataclass(frozen=True, slots=True)
class Digest:
    """What the challenge offers."""

    realm: str
    domains: tuple[str, ...]
    offers: Offers
    qop: tuple[str, ...] = ("auth",)


class Authentication:
    """Challenges requests and turns credentials into identities."""

    def __init__(
        self,
        digest: Digest,
        *,
        nonces: NonceSigner,
        window: NonceWindow,
        authenticator: Authenticator,
        clock: Clock,
        metrics: Metrics,
        answer: Callable[[Proof], str] = lambda _: "",
    ) -> None:
        """`answer` gives the rspauth to a proof that was accepted, "" where the password is not known here."""
        self._answer = answer
        self._digest = digest
        self._nonces = nonces
        self._window = window
        self._authenticator = authenticator
        self._clock = clock
        self._metrics = metrics

    async def identify(self, request: Request, address: str) -> Identity:
        """The identity behind a request from an address. Raises `Reject`: 401 or 407 with challenges, 503 when RADIUS
        is away. What it is judged by, good or bad, was made with a nonce given to this address: rule "credentials".
        """
        now, source = self._clock.wall(), source_key(address)
        credentials = self._own_credentials(request)
        if credentials is None:
            self._metrics.auth("challenged")
            raise self._challenge(request, source)
        proof = self._proof(request, credentials, source)
        state = self._nonces.judge(proof.nonce, now, source)
        if state is not NonceState.VALID:
            self._metrics.auth(state.value)
            # also for a nonce of an earlier process: the phone then answers without asking its user (RFC 7616 3.3)
            rule = "challenge" if state is NonceState.STALE else "nonce"
            raise self._challenge(request, source, stale=True, rule=rule)
        count = _nonce_count(proof, header=_header_of(request))
        if not await self._window.accept(proof.nonce, count, self._nonces.expires_at(proof.nonce)):
            self._metrics.auth("replayed")
            raise self._challenge(request, source, stale=True)
        answer = await self._ask(proof)
        if isinstance(answer, Refusal):
            self._metrics.auth("refused")
            if answer.final:
                raise Reject(403, answer.message or "Not allowed", rule="person", why=proof.username)
            reason = answer.message or "Invalid credentials"
            raise self._challenge(request, source, reason=reason, rule="credentials")
        addresses = self.addresses_of(answer)
        # Once more with every name that the person has: the login may have been one that no rule knows.
        self._check_algorithm(request, source, proof.algorithm, (answer.user, answer.extension, *addresses))
        self._metrics.auth("accepted")
        return Identity(answer, addresses, self._info(proof) if proof.qop and proof.method == "REGISTER" else "")

    def _info(self, proof: Proof) -> str:
        """That we know the password too (RFC 7616 3.5). No nextnonce: a nonce serves until it is stale, with counts."""
        rspauth = self._answer(proof)
        if not rspauth:
            return ""
        return f'qop={proof.qop}, rspauth="{rspauth}", cnonce={quote(proof.cnonce)}, nc={proof.nc}'

    def addresses_of(self, grant: Grant) -> frozenset[str]:
        """The addresses of a person: those of the directory, and login and extension in our domains."""
        own = {address if address.islower() else address.lower() for address in grant.addresses}  # no copies
        for name in (grant.user.partition("@")[0].lower(), grant.extension):
            if name:
                own.update(f"{name}@{domain}" for domain in self._digest.domains)
        return frozenset(own)

    async def _ask(self, proof: Proof) -> Grant | Refusal:
        started = self._clock.monotonic()
        try:
            answer = await self._authenticator.check(proof)
        except Unavailable as error:
            self._metrics.auth("unavailable")
            raise Reject(
                503, "Authentication service unavailable", retry_after=RETRY_AFTER_S, rule="radius", why=str(error)
            ) from None
        self._metrics.auth_seconds(self._clock.monotonic() - started)
        return answer

    def _own_credentials(self, request: Request) -> Credentials | None:
        """The credentials for our realm, None when there are none. Malformed ones are a `SipError`."""
        name = _header_of(request)
        for value in request.get_all(name.lower())[:MAX_CREDENTIALS]:
            try:
                credentials = Credentials.parse(value)
            except SipError as error:
                error.header = name
                raise
            if credentials.scheme.lower() == "digest" and credentials.params.get("realm") == self._digest.realm:
                return credentials
        return None

    def _proof(self, request: Request, credentials: Credentials, source: str) -> Proof:
        params = credentials.params
        for name in REQUIRED:
            if not params.get(name):
                raise SipError("credentials", f"{name} missing in digest credentials", header=_header_of(request))
        if (params.get("userhash") or "").lower() == "true":  # RFC 7616 3.4.4: RADIUS knows people by their names only
            raise self._challenge(request, source, reason="Digest userhash was not offered", rule="userhash")
        algorithm = (params.get("algorithm") or "MD5").upper()
        qop = (params.get("qop") or "").lower()
        self._check_algorithm(request, source, algorithm, (params["username"], *_claimed(request)))
        if qop and qop not in self._digest.qop:
            raise self._challenge(request, source, reason="Digest qop was not offered", rule="qop")
        if not _same_target(params["uri"] or "", request):
            raise Reject(403, "Digest uri is not the Request-URI", rule="digest-uri", why=params["uri"] or "")
        return Proof(
            username=params["username"] or "",
            realm=self._digest.realm,
            nonce=params["nonce"] or "",
            uri=params["uri"] or "",
            method=request.method,
            response=params["response"] or "",
            algorithm=algorithm,
            qop=qop,
            nc=params.get("nc") or "",
            cnonce=params.get("cnonce") or "",
            body_hash=_hash(algorithm, request.body) if qop == "auth-int" else "",
            address=request.to.uri.address if request.method == "REGISTER" else request.from_.uri.address,
        )

    def _check_algorithm(self, request: Request, source: str, algorithm: str, names: Iterable[str]) -> None:
        """Refuse what this person's phone was not offered: whoever takes a stronger challenge away gains nothing."""
        if algorithm in self._digest.offers.to(request.get("user-agent") or "", names):
            return
        reason = "Digest algorithm was not offered"
        if algorithm.endswith(SESSION):
            reason = "Digest algorithm was not offered: no -sess variant is"
        raise self._challenge(request, source, reason=reason, rule="algorithm", names=names)

    def _challenge(
        self,
        request: Request,
        source: str,
        *,
        stale: bool = False,
        reason: str = "",
        rule: str = "challenge",
        names: Iterable[str] = (),
    ) -> Reject:
        status, name = (401, "WWW-Authenticate") if request.method == "REGISTER" else (407, "Proxy-Authenticate")
        offer = self._digest.offers.to(request.get("user-agent") or "", names or _claimed(request))
        texts = self._texts(offer, self._nonces.make(self._clock.wall(), source), stale)
        return Reject(status, reason, headers=tuple((name, text) for text in texts), rule=rule)

    def _texts(self, offer: Sequence[str], nonce: str, stale: bool) -> Sequence[str]:
        head = f'Digest realm="{self._digest.realm}", nonce="{nonce}"'
        tail = f'qop="{",".join(self._digest.qop)}"' + (", stale=true" if stale else "")
        return [f"{head}, algorithm={algorithm}, {tail}" for algorithm in offer]


def _claimed(request: Request) -> tuple[str, ...]:
    """Whom a request says that it comes from."""
    uri = request.to.uri if request.method == "REGISTER" else request.from_.uri
    return (uri.address,)


def _hash(algorithm: str, data: bytes) -> str:
    return hashlib.new(HASHES[algorithm], data, usedforsecurity=False).hexdigest()


def _header_of(request: Request) -> str:
    """Where credentials for us stand: we are the registrar, or the proxy (RFC 3261 22.2, 22.3)."""
    return "Authorization" if request.method == "REGISTER" else "Proxy-Authorization"


def _nonce_count(proof: Proof, *, header: str) -> int:
    """The nonce count; 0 without qop, so that such a nonce serves once only (RFC 7616 3.4)."""
    if not proof.qop:
        return 0
    if not proof.cnonce or not NONCE_COUNT.fullmatch(proof.nc):
        raise SipError("credentials", "nc must be 8 hex digits and cnonce present with qop", header=header)
    return int(proof.nc, 16)


def _same_target(digest_uri: str, request: Request) -> bool:
    """Whether credentials were made for this Request-URI (RFC 7616 3.4.6: else they may be another request's)."""
    if digest_uri == request.uri_text:
        return True
    try:
        made_for = Uri.parse(digest_uri)
    except SipError:
        return False
    return made_for.user == request.uri.user and made_for.host == request.uri.host
