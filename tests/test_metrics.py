from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nomad.metrics import MAX_SERIES, Counter, Metrics
from nomad.ports import Cdr, SpoolState

CONTRACT = """
nomad_registrations nomad_sip_requests_total{method,transport} nomad_sip_responses_total{method,code}
nomad_sip_malformed_total{reason} nomad_auth_total{result} nomad_auth_seconds
nomad_radius_requests_total{server,kind,result} nomad_radius_seconds{server,kind} nomad_radius_server_up{server}
nomad_calls_active nomad_calls_total{direction,class,result} nomad_call_setup_seconds
nomad_call_seconds_total{direction,class} nomad_policy_refusals_total{rule} nomad_bans_active
nomad_bans_total{reason} nomad_accounting_spool_records nomad_accounting_oldest_seconds
nomad_accounting_sent_total{status_type} nomad_media_packets_total{direction} nomad_config_last_reload_success
nomad_build_info{version}
"""
USERS_CONTRACT = "nomad_user_calls_total{user,class,result} nomad_user_call_seconds_total{user,class}"


@dataclass
class Transports:
    requests: Mapping[tuple[str, str], int] = field(default_factory=lambda: {("REGISTER", "udp"): 3})
    responses: Mapping[tuple[str, int], int] = field(default_factory=lambda: {("REGISTER", 401): 2})
    retransmissions: int = 4
    malformed: Mapping[str, int] = field(default_factory=lambda: {"syntax": 1})
    dropped: Mapping[str, int] = field(default_factory=lambda: {"gate": 5, "ack": 1})
    keepalives: Mapping[str, int] = field(default_factory=lambda: {"crlf": 4})
    connections: Mapping[str, int] = field(default_factory=lambda: {"tcp": 2})


def cdr(user: str = "alice", *, result: str = "answered", duration_s: float = 61.5) -> Cdr:
    return Cdr(
        id="1", call_id="a@b", direction="out", user=user, caller="alice@inria.example", callee="1000@inria.example",
        number_class="internal", started_at=0.0, answered_at=1.0, ended_at=62.5, duration_s=duration_s, result=result,
        status=200, rule="", reason="", terminate_cause="User-Request", peer="192.0.2.1:5060", user_agent="x",
    )  # fmt: skip


def samples(text: bytes) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def label_names(text: bytes) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            names.setdefault(re.sub("_(bucket|sum|count)$", "", sample.name), set()).update(set(sample.labels) - {"le"})
    return names


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1.2.3", wall=lambda: 1000.0)


def fill(metrics: Metrics) -> None:
    metrics.watch_transport(Transports())
    metrics.watch(registrations=lambda: 7, calls=lambda: 2, bans=lambda: 1, spool=lambda: SpoolState(3, 940.0))
    metrics.auth("accepted")
    metrics.auth_seconds(0.004)
    metrics.radius("127.0.0.1:1812", "auth", "accept", 0.002)
    metrics.watch(radius=lambda: [("127.0.0.1:1812", False)])
    metrics.policy_refusal("class")
    metrics.refused("")
    metrics.dropped("ack")
    metrics.banned("scanner")
    metrics.call_setup_seconds(2.0)
    metrics.call_ended(cdr())
    metrics.accounting_sent("Start")
    metrics.media_packets("in", 50)
    metrics.store_failure("call record")
    metrics.reloaded(False)


def test_every_family_of_the_contract_is_there_with_its_labels(metrics: Metrics) -> None:
    fill(metrics)
    shown = label_names(metrics.render()[0]) | label_names(metrics.render_users()[0])
    for entry in (CONTRACT + USERS_CONTRACT).split():
        name, _, labels = entry.partition("{")
        assert shown[name] == set(labels.rstrip("}").split(",")) - {""}, name


def test_every_family_is_announced_before_anything_happened(metrics: Metrics) -> None:
    text = metrics.render()[0].decode()
    for entry in CONTRACT.split():
        assert f"# TYPE {entry.partition('{')[0]} " in text
    assert "nomad_calls_active 0.0" in text


def test_values_are_what_was_counted(metrics: Metrics) -> None:
    fill(metrics)
    found = samples(metrics.render()[0])
    assert found["nomad_registrations"] == 7
    assert found["nomad_sip_requests_total{method=REGISTER,transport=udp}"] == 3
    assert found["nomad_sip_responses_total{code=401,method=REGISTER}"] == 2
    assert found["nomad_sip_dropped_total{reason=ack}"] == 2
    assert found["nomad_sip_retransmissions_total"] == 4
    assert found["nomad_auth_total{result=accepted}"] == 1
    assert found["nomad_auth_total{result=refused}"] == 0
    assert found["nomad_radius_server_up{server=127.0.0.1:1812}"] == 0
    assert found["nomad_call_seconds_total{class=internal,direction=out}"] == 61.5
    assert found["nomad_accounting_spool_records"] == 3
    assert found["nomad_accounting_oldest_seconds"] == 60
    assert found["nomad_config_last_reload_success"] == 0
    assert found["nomad_media_packets_total{direction=in}"] == 50
    assert found["nomad_build_info{version=1.2.3}"] == 1
    assert found["nomad_sip_rejected_total{rule=other}"] == 1


def test_histogram_buckets_add_up(metrics: Metrics) -> None:
    for seconds in (0.0005, 0.001, 0.3, 60.0):
        metrics.auth_seconds(seconds)
    found = samples(metrics.render()[0])
    assert found["nomad_auth_seconds_bucket{le=0.001}"] == 2
    assert found["nomad_auth_seconds_bucket{le=0.5}"] == 3
    assert found["nomad_auth_seconds_bucket{le=+Inf}"] == found["nomad_auth_seconds_count"] == 4
    assert found["nomad_auth_seconds_sum"] == pytest.approx(60.3015)


def test_openmetrics_on_request(metrics: Metrics) -> None:
    text, kind = metrics.render("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_users_are_only_in_their_own_exposition(metrics: Metrics) -> None:
    metrics.call_ended(cdr("alice"))
    assert b"alice" not in metrics.render()[0]
    found = samples(metrics.render_users()[0])
    assert found["nomad_user_calls_total{class=internal,result=answered,user=alice}"] == 1
    assert found["nomad_user_call_seconds_total{class=internal,user=alice}"] == 61.5


def test_users_beyond_the_cap_count_as_other() -> None:
    metrics = Metrics(max_users=2)
    for user in ("alice", "bob", "carol", "dave", "alice"):
        metrics.call_ended(cdr(user, duration_s=0.0))
    found = samples(metrics.render_users()[0])
    assert {key: value for key, value in found.items() if "user=" in key} == {
        "nomad_user_calls_total{class=internal,result=answered,user=alice}": 2,
        "nomad_user_calls_total{class=internal,result=answered,user=bob}": 1,
        "nomad_user_calls_total{class=internal,result=answered,user=other}": 2,
    }


def test_pseudonyms_hide_the_name_and_differ_at_each_start() -> None:
    first, second = Metrics(pseudonymise=True), Metrics(pseudonymise=True)
    for metrics in (first, first, second):
        metrics.call_ended(cdr("alice"))
    assert b"alice" not in first.render_users()[0]
    (shown,) = [name for name in samples(first.render_users()[0]) if name.startswith("nomad_user_calls_total")]
    assert samples(first.render_users()[0])[shown] == 2
    assert shown not in samples(second.render_users()[0])


def test_a_family_is_bounded() -> None:
    counter = Counter("x", "text", ["reason"])
    for number in range(MAX_SERIES + 10):
        counter.inc(str(number))
    assert len(counter.values) == MAX_SERIES + 1
    assert counter.values[("other",)] == 10


def test_undecodable_names_do_not_break_the_scrape(metrics: Metrics) -> None:
    metrics.call_ended(cdr("al\udcffice"))
    metrics.policy_refusal("\udc80")
    assert b"al?ice" in metrics.render_users()[0]
    assert metrics.render()[0]


def test_orders_are_shown_once_there_is_a_listener() -> None:
    @dataclass
    class Orders:
        requests: int = 3
        duplicates: int = 1
        dropped: dict[str, int] = field(default_factory=lambda: {"replay": 2})

    metrics = Metrics()
    assert b"nomad_radius_orders" not in metrics.render()[0]
    metrics.watch_orders(Orders())
    text = metrics.render()[0].decode()
    for result, count in (("taken", 2.0), ("duplicate", 1.0), ("replay", 2.0)):
        assert f'nomad_radius_orders_total{{result="{result}"}} {count}' in text


def test_no_family_is_shown_twice(metrics: Metrics) -> None:
    metrics.pbx_failed("asterisk", "503")
    names = [line.split(" ")[2] for line in metrics.render()[0].decode().splitlines() if line.startswith("# TYPE ")]
    assert len(names) == len(set(names))
    assert "nomad_pbx_failures_total" in names
