"""Targets against measured figures."""

from bench.targets import EDGE, Target, targets


def test_limits_in_both_directions() -> None:
    assert Target("cost", 1.0, 1.0).met
    assert not Target("cost", 1.0, 1.01).met
    assert Target("rate", 10.0, 10.0, least=True).met
    assert not Target("rate", 10.0, 9.9, least=True).met


def test_only_what_was_measured_is_judged() -> None:
    assert not list(targets({"machine": {}, "skipped": {"chain": "no kamailio"}}))


def test_each_part_gives_its_targets() -> None:
    chain = {"ratios": {"register": {EDGE: {"median": 2.0}, "chain, ours with the embedded server": {"median": 0.5}}}}
    delay = {"register, 50 ms": {"ratio": {"kamailio, 8 workers": 11.0}}, "register, 0 ms": {"ratio": {"x": 1.0}}}
    waits = {"sent": 300, "within_100_ms": 299}
    ours = {
        "accounting": {"starts_lost": 0, "stops_lost": 1, "doubled": 1},
        "options_during": waits,
        "bye_during": {**waits, "sent": 299},
        "calls": {"failed": 0},
    }
    results = {
        "chain": {**chain, "machine": {}},
        "delay": {**delay, "machine": {}},
        "latency": {"call, 0 ms": {"p99_ratio": {"median": 0.9}}, "machine": {}},
        "outage": {"nomad": ours},
        "memory": {"nomad": {"bytes_per_registration": 4000}},
    }
    judged = {target.words: (target.measured, target.met) for target in targets(results)}
    assert judged == {
        f"CPU, register: {EDGE}": (2.0, False),
        "CPU, register: chain, ours with the embedded server": (0.5, True),
        "clean rate, register, 50 ms, to kamailio, 8 workers": (11.0, True),
        "p99 at half load, call, 0 ms": (0.9, True),
        "outage: records lost or doubled": (2, False),
        "outage: OPTIONS not answered within 100 ms": (1, False),
        "outage: BYE not answered within 100 ms": (0, True),
        "outage: calls failed": (0, True),
        "bytes a registration": (4000, False),
    }
