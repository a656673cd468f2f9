"""Every metric family of the edge, and the per-user families apart (their labels are people).

Counting is a dictionary increment on the event loop's thread; prometheus_client only writes the text at a scrape. What
others count themselves (`watch`, `watch_transport`) is read at the scrape.
"""

from __future__ import annotations

import hmac
import secrets
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from nomad import __version__
from nomad.ports import Cdr, SpoolState

AUTH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SETUP_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 180.0)
MAX_SERIES = 5000  # in one family; more label values count under "other"
OTHER = "other"
PSEUDONYM_HEX = 16


class TransportCounters(Protocol):
    """What the transports count; the keys are bounded label values."""

    @property
    def requests(self) -> Mapping[tuple[str, str], int]:
        """By method and transport."""

    @property
    def responses(self) -> Mapping[tuple[str, int], int]:
        """By method and status code."""

    @property
    def retransmissions(self) -> int:
        """Datagrams that repeated a request; they are not in `requests`."""

    @property
    def malformed(self) -> Mapping[str, int]:
        """By reason."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """By reason."""

    @property
    def keepalives(self) -> Mapping[str, int]:
        """By kind."""

    @property
    def connections(self) -> Mapping[str, int]:
        """Open now, by transport."""


class OrderCounters(Protocol):
    """What the RFC 5176 listener counts."""

    @property
    def requests(self) -> int:
        """Orders that were what they claimed to be."""

    @property
    def duplicates(self) -> int:
        """Of them, those that came again."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """What was no valid order, by reason; the reasons are bounded."""


class Counter:
    """One counter family."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str] = (), *, start: Iterable[tuple[str, ...]] = ()
    ) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self.values: dict[tuple[str, ...], float] = dict.fromkeys(start if labels else [()], 0.0)
        self._overflow = (OTHER,) * len(self.labels)

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Count; label values in the order of the family's labels."""
        values = self.values
        if labels in values:
            values[labels] += by
        elif len(values) < MAX_SERIES:
            values[labels] = by
        else:
            values[self._overflow] = values.get(self._overflow, 0.0) + by

    def family(self) -> Metric:
        """The family with its values, for a scrape."""
        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric([_clean(label) for label in labels], value)
        return family


class Histogram:
    """One histogram family."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self._bounds = tuple(buckets)
        self._cells: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        if not labels:
            self._open(())

    def observe(self, value: float, *labels: str) -> None:
        """Count one value; label values in the order of the family's labels."""
        cells = self._cells.get(labels) or self._open(labels)
        cells[bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def family(self) -> Metric:
        """The family with its values, for a scrape."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for labels, cells in self._cells.items():
            buckets: list[tuple[str, float]] = []
            total = 0
            for bound, count in zip((*map(str, self._bounds), "+Inf"), cells, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric([_clean(label) for label in labels], buckets, self._sums[labels])
        return family

    def _open(self, labels: tuple[str, ...]) -> list[int]:
        self._sums[labels] = 0.0
        return self._cells.setdefault(labels, [0] * (len(self._bounds) + 1))


class Metrics:
    """What `/metrics` and `/metrics/users` show.

    `pseudonymise` replaces user names by keyed hashes, which differ at each start.
    """

    def __init__(
        self,
        *,
        version: str = __version__,
        max_users: int = 5000,
        pseudonymise: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        results = [("accepted",), ("refused",), ("challenged",), ("unavailable",)]
        self._auth = Counter("nomad_auth", "Credential checks by result", ["result"], start=results)
        self._auth_seconds = Histogram("nomad_auth_seconds", "Time of a check by RADIUS", buckets=AUTH_BUCKETS)
        kinds = [("served",), ("outage",)]
        self._verdicts = Counter("nomad_auth_verdicts", "Logins by a remembered verdict", ["why"], start=kinds)
        self._radius = Counter("nomad_radius_requests", "RADIUS requests", ["server", "kind", "result"])
        self._radius_seconds = Histogram(
            "nomad_radius_seconds", "Time of a RADIUS exchange", ["server", "kind"], buckets=AUTH_BUCKETS
        )
        self._calls = Counter("nomad_calls", "Finished or refused calls", ["direction", "class", "result"])
        self._setup = Histogram("nomad_call_setup_seconds", "From INVITE to answer", buckets=SETUP_BUCKETS)
        self._call_seconds = Counter("nomad_call_seconds", "Talking time", ["direction", "class"])
        self._policy = Counter("nomad_policy_refusals", "Calls refused by the policy", ["rule"])
        self._limits = Counter("nomad_calls_limited", "Calls ended because a limit was reached", ["rule"])
        self._rejects = Counter("nomad_sip_rejected", "Requests refused by a check of the edge", ["rule"])
        self._bans = Counter("nomad_bans", "Addresses banned", ["reason"])
        self._suspects = Counter("nomad_guard_suspects", "Addresses slowed down", ["reason"])
        self._fraud = Counter("nomad_fraud", "Accounts that did not behave like their people", ["rule"])
        states = [("Start",), ("Interim-Update",), ("Stop",)]
        self._sent = Counter("nomad_accounting_sent", "Acknowledged records", ["status_type"], start=states)
        self._media = Counter("nomad_media_packets", "Relayed packets", ["direction"], start=[("in",), ("out",)])
        self._stores = Counter("nomad_store_failures", "Records that a store did not take", ["what"])
        self._pbx = Counter("nomad_pbx_failures", "Requests that a PBX's target did not take", ["pbx", "reason"])
        self._drops = Counter("nomad_sip_dropped", "Messages and packets dropped", ["reason"])
        self._families: list[Counter | Histogram] = [
            self._auth, self._auth_seconds, self._verdicts, self._radius, self._radius_seconds, self._calls,
            self._setup, self._call_seconds, self._policy, self._limits, self._rejects, self._bans, self._suspects,
            self._fraud, self._sent, self._media, self._stores, self._pbx,
        ]  # fmt: skip
        self._build = GaugeMetricFamily("nomad_build_info", "Version that runs", labels=["version"])
        self._build.add_metric([version], 1.0)
        self.policy_in_force("built-in", "")
        self._servers: Callable[[], Iterable[tuple[str, bool]]] = tuple
        self._reload_success = 1.0
        self._gauges: dict[str, Callable[[], float]] = {}
        self._spool: Callable[[], SpoolState] = lambda: SpoolState(0, None)
        self._transport: TransportCounters | None = None
        self._orders: OrderCounters | None = None
        self._replies: Callable[[], Mapping[tuple[str, str, str], float]] = dict
        self._users = _Users(max_users, secrets.token_bytes(32) if pseudonymise else b"")
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collected(self._collect))
        ProcessCollector(registry=self._registry)
        self._user_registry = CollectorRegistry(auto_describe=False)
        self._user_registry.register(_Collected(self._users.collect))

    # -- what happens --

    def auth(self, result: str) -> None:
        """Credentials were judged, or a challenge was sent."""
        self._auth.inc(result)

    def verdict(self, why: str) -> None:
        """A remembered verdict served: within its grace, or because no RADIUS server answered."""
        self._verdicts.inc(why)

    def auth_seconds(self, seconds: float) -> None:
        """How long the authenticator took."""
        self._auth_seconds.observe(seconds)

    def radius(self, server: str, kind: str, result: str, seconds: float) -> None:
        """One exchange with a RADIUS server ended."""
        self._radius.inc(server, kind, result)
        self._radius_seconds.observe(seconds, server, kind)

    def policy_refusal(self, rule: str) -> None:
        """The policy refused a call."""
        self._policy.inc(rule)

    def limit_reached(self, rule: str) -> None:
        """A call was ended because it may not last longer."""
        self._limits.inc(rule)

    def refused(self, rule: str) -> None:
        """A check of the edge refused a request."""
        self._rejects.inc(rule or OTHER)

    def pbx_failed(self, pbx: str, reason: str) -> None:
        """A target of a PBX could not be reached, did not answer or answered 503."""
        self._pbx.inc(pbx, reason)

    def dropped(self, reason: str) -> None:
        """Something was dropped that nobody answers."""
        self._drops.inc(reason)

    def banned(self, reason: str) -> None:
        """An address was banned."""
        self._bans.inc(reason)

    def suspected(self, reason: str) -> None:
        """An address was slowed down."""
        self._suspects.inc(reason)

    def fraud(self, rule: str) -> None:
        """Something did not look like the person."""
        self._fraud.inc(rule)

    def call_setup_seconds(self, seconds: float) -> None:
        """A call was answered this long after its INVITE."""
        self._setup.observe(seconds)

    def call_ended(self, record: Cdr) -> None:
        """A call ended or was refused."""
        self._calls.inc(record.direction, record.number_class, record.result)
        if record.duration_s:
            self._call_seconds.inc(record.direction, record.number_class, by=record.duration_s)
        self._users.call_ended(record)

    def accounting_sent(self, status: str) -> None:
        """A RADIUS server acknowledged an accounting record."""
        self._sent.inc(status)

    def media_packets(self, direction: str, packets: int) -> None:
        """A relay counted packets."""
        self._media.inc(direction, by=packets)

    def store_failure(self, what: str) -> None:
        """A store did not take a record."""
        self._stores.inc(what)

    def policy_in_force(self, version: str, sha: str) -> None:
        """Which policy is in force now."""
        self._in_force = GaugeMetricFamily("nomad_policy_info", "Policy in force", labels=["sha", "version"])
        self._in_force.add_metric([sha, version], 1.0)

    def reloaded(self, success: bool) -> None:
        """The configuration was read again."""
        self._reload_success = float(success)

    # -- what is read at a scrape --

    def watch(
        self,
        *,
        registrations: Callable[[], float] | None = None,
        calls: Callable[[], float] | None = None,
        subscriptions: Callable[[], float] | None = None,
        bans: Callable[[], float] | None = None,
        locks: Callable[[], float] | None = None,
        spool: Callable[[], SpoolState] | None = None,
        radius: Callable[[], Iterable[tuple[str, bool]]] | None = None,
    ) -> None:
        """Tell where the gauges are read; `radius` gives each server and whether it is up."""
        named = {
            "registrations": registrations,
            "calls": calls,
            "subscriptions": subscriptions,
            "bans": bans,
            "locks": locks,
        }
        self._gauges.update({name: read for name, read in named.items() if read is not None})
        if spool is not None:
            self._spool = spool
        if radius is not None:
            self._servers = radius

    def watch_transport(self, counters: TransportCounters) -> None:
        """Tell where the transports count."""
        self._transport = counters

    def watch_orders(self, counters: OrderCounters) -> None:
        """Tell where the RFC 5176 listener counts."""
        self._orders = counters

    def watch_replies(self, read: Callable[[], Mapping[tuple[str, str, str], float]]) -> None:
        """Tell where the RADIUS clients count replies that they dropped, by server, kind and reason."""
        self._replies = read

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The text of `/metrics` and its content type."""
        return _render(self._registry, accept)

    def render_users(self, accept: str = "") -> tuple[bytes, str]:
        """The text of `/metrics/users` and its content type."""
        return _render(self._user_registry, accept)

    def _collect(self) -> Iterator[Metric]:
        spool = self._spool()
        age = max(0.0, self._wall() - spool.oldest_at) if spool.oldest_at is not None else 0.0
        yield _gauge("nomad_registrations", "Registered contacts", self._read("registrations"))
        yield _gauge("nomad_calls_active", "Calls in progress", self._read("calls"))
        yield _gauge("nomad_subscriptions", "Subscriptions in force", self._read("subscriptions"))
        yield _gauge("nomad_bans_active", "Banned addresses", self._read("bans"))
        yield _gauge("nomad_accounts_locked", "Locked accounts", self._read("locks"))
        yield _gauge("nomad_accounting_spool_records", "Records that no server has acknowledged", spool.records)
        yield _gauge("nomad_accounting_oldest_seconds", "Age of the oldest of them", age)
        undeliverable = CounterMetricFamily(
            "nomad_accounting_undeliverable", "Records that were set aside: no server will ever take them"
        )
        undeliverable.add_metric([], spool.undeliverable)
        yield undeliverable
        yield _gauge("nomad_config_last_reload_success", "1 when the last reload was taken", self._reload_success)
        yield self._build
        yield self._in_force
        servers = GaugeMetricFamily("nomad_radius_server_up", "1 when the server answers", labels=["server"])
        for server, up in self._servers():
            servers.add_metric([server], float(up))
        yield servers
        labels = ["server", "kind", "reason"]
        yield _counts("nomad_radius_replies_dropped", "Replies that were not taken", labels, self._replies())
        for each in self._families:
            yield each.family()
        yield from self._collect_transport()
        if self._orders is not None:
            seen = self._orders
            results: dict[str, float] = {"taken": seen.requests - seen.duplicates, "duplicate": seen.duplicates}
            yield _counts("nomad_radius_orders", "Disconnect and CoA requests", ["result"], {**results, **seen.dropped})

    def _read(self, name: str) -> float:
        read = self._gauges.get(name)
        return read() if read is not None else 0.0

    def _collect_transport(self) -> Iterator[Metric]:
        seen = self._transport
        drops: dict[str, float] = {labels[0]: count for labels, count in self._drops.values.items()}
        for reason, count in (seen.dropped if seen else {}).items():
            drops[reason] = drops.get(reason, 0.0) + count
        yield _counts("nomad_sip_requests", "Requests received", ["method", "transport"], seen.requests if seen else {})
        yield _counts("nomad_sip_responses", "Responses sent", ["method", "code"], seen.responses if seen else {})
        repeats = {(): seen.retransmissions if seen else 0}
        yield _counts("nomad_sip_retransmissions", "Repeated requests that were answered unparsed", [], repeats)
        yield _counts("nomad_sip_malformed", "What was no SIP message", ["reason"], seen.malformed if seen else {})
        yield _counts(self._drops.name, self._drops.text, ["reason"], drops)
        yield _counts("nomad_sip_keepalives", "Keepalives answered", ["kind"], seen.keepalives if seen else {})
        connections = GaugeMetricFamily("nomad_sip_connections", "Open connections", labels=["transport"])
        for transport, count in (seen.connections if seen else {}).items():
            connections.add_metric([transport], count)
        yield connections


class _Users:
    """The per-user families: the first `limit` users by name or pseudonym, everybody else as "other"."""

    def __init__(self, limit: int, key: bytes) -> None:
        self._limit = limit
        self._key = key
        self._names: dict[str, str] = {}
        self._calls: dict[tuple[str, str, str], float] = {}
        self._seconds: dict[tuple[str, str], float] = {}

    def call_ended(self, record: Cdr) -> None:
        user = self._name(record.user)
        call = (user, record.number_class, record.result)
        self._calls[call] = self._calls.get(call, 0.0) + 1
        if record.duration_s:
            talk = (user, record.number_class)
            self._seconds[talk] = self._seconds.get(talk, 0.0) + record.duration_s

    def collect(self) -> Iterator[Metric]:
        yield _counts("nomad_user_calls", "Finished or refused calls", ["user", "class", "result"], self._calls)
        yield _counts("nomad_user_call_seconds", "Talking time", ["user", "class"], self._seconds)

    def _name(self, user: str) -> str:
        if not user:
            return OTHER
        name = self._names.get(user)
        if name is None:
            if len(self._names) >= self._limit:
                return OTHER
            name = self._names[user] = self._pseudonym(user) if self._key else user
        return name

    def _pseudonym(self, user: str) -> str:
        return hmac.new(self._key, user.encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:PSEUDONYM_HEX]


class _Collected(Collector):
    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counts(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        parts = key if isinstance(key, tuple) else (key,)
        family.add_metric([_clean(str(part)) for part in parts], value)
    return family


def _clean(label: str) -> str:
    """A label value that can be written as UTF-8."""
    return label if label.isascii() else label.encode("utf-8", "replace").decode()


def _render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
