import pytest

from nomad.config import ConfigError
from nomad.edge.policy import compile_policy, default_ruleset
from nomad.ports import Limits

GOOD = """
timezone = "Europe/Paris"
[classes]
internal = ["re:[0-9]{4}"]
[[group]]
name = "staff"
match = { users = ["alice"] }
allow = ["internal"]
max_call_minutes = 2
max_minutes_per_day = 10
hours = ["Mon-Fri 07:00-21:00", "Sat 22:00-02:00"]
networks = ["10.0.0.0/8"]
"""


def test_a_policy_is_compiled() -> None:
    group = compile_policy(GOOD, "policy.toml").groups[0]
    assert group.limits == Limits(call_s=120, seconds_per_day=600)
    assert [h.days for h in group.hours] == [frozenset(range(5)), frozenset({5})]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (('"internal"]\nmax', '"nothing"]\nmax'), "policy.toml:8: group[0].allow: no class 'nothing'"),
        (('["re:[0-9]{4}"]', '["re:["]'), "policy.toml:4: classes.internal: 're:[' is no regular expression"),
        (
            ('["re:[0-9]{4}"]', '["re:+33"]'),
            "policy.toml:4: classes.internal: 're:+33' is no regular expression",
        ),
        (('["re:[0-9]{4}"]', '["re:+33"]'), "; write [+] for a plus"),
        (('["re:[0-9]{4}"]', '["re:1{99999999999}"]'), "is no regular expression: the repetition number is too large"),
        (("max_call_minutes = 2", f"max_call_minutes = {10**400}"), "group[0].max_call_minutes: is not from 0 to"),
        (("internal = [", '"15" = ["1"]\ninternal = ['), "classes.'15': looks like a number"),
        (('name = "staff"', 'name = "a\\r\\nVia: x"'), "policy.toml:6: group[0].name: 'a\\r\\nVia: x' cannot be read"),
        (("[classes]", '[numbers]\ncountry = "fr"\n[classes]'), "policy.toml:4: numbers.country: 'fr' is no country"),
        (("[classes]", '[numbers]\noutside_prefix = "x"\n[classes]'), "numbers.outside_prefix: 'x' is no digits"),
        (("[classes]", "[numbers]\nlongest_internal = -1\n[classes]"), "numbers.longest_internal: is below 0"),
        (("[classes]", 'holidays = ["Easter"]\n[classes]'), "policy.toml:3: holidays: 'Easter' is no day"),
        (("[classes]", 'deny = ["nothing"]\n[classes]'), "policy.toml:3: deny: no class 'nothing'"),
        (("[classes]", 'deny = ["internel"]\n[classes]'), "deny: no class 'internel'; did you mean 'internal'?"),
        (("[classes]", 'deny = ["re:["]\n[classes]'), "policy.toml:3: deny: 're:[' is no regular expression"),
        (("[classes]", 'deny = ["12a"]\n[classes]'), "policy.toml:3: deny: '12a' is no prefix of digits"),
        (("[[group]]", "[tariffs.internal]\nper_minute = -1\n[[group]]"), "tariffs.internal.per_minute: is no amount"),
        (("[[group]]", "[tariffs.internal]\nsetup = nan\n[[group]]"), "tariffs.internal.setup: is no amount of money"),
        (("hours = [", 'countries = ["France"]\nhours = ['), "group[0].countries: 'France' is no ISO 3166 code"),
        (("hours = [", 'transports = ["sctp"]\nhours = ['), "group[0].transports: 'sctp' is none of udp, tcp"),
        (("hours = [", "max_cost_per_day = nan\nhours = ["), "group[0].max_cost_per_day: is not from 0 to"),
        (('["re:[0-9]{4}"]', '["abc"]'), "policy.toml:4: classes.internal: 'abc' is no prefix"),
        (('{ users = ["alice"] }', "{}"), "policy.toml:7: group[0].match: matches nobody"),
        (("max_call_minutes", "max_cal_minutes"), "did you mean 'max_call_minutes'?"),
        (("Mon-Fri 07:00", "Mo-Fr 7"), "policy.toml:11: group[0].hours: 'Mo-Fr 7-21:00'"),
        (
            ("10.0.0.0/8", "10.0.0.1/8"),
            "policy.toml:12: group[0].networks: '10.0.0.1/8' has host bits set; write '10.0.0.0/8'",
        ),
        (("10.0.0.0/8", "10.0.0/8"), "group[0].networks: '10.0.0/8' is no network; write it as in '192.0.2.0/24'"),
        (("Europe/Paris", "Europe/Nowhere"), "policy.toml:2: timezone: no time zone 'Europe/Nowhere'"),
        (
            ("max_call_minutes = 2", "max_call_minutes = -2"),
            "group[0].max_call_minutes: is not from 0 to 1,000",
        ),
        (("[classes]", "[classes"), "policy.toml:3: not TOML: "),
    ],
)
def test_what_is_wrong_is_named_with_line_and_mend(change: tuple[str, str], finding: str) -> None:
    text = GOOD.replace(*change)
    assert text != GOOD
    with pytest.raises(ConfigError) as error:
        compile_policy(text, "policy.toml")
    assert finding in str(error.value)


def test_two_groups_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="a second group named 'staff'"):
        compile_policy(GOOD + GOOD[GOOD.index("[[group]]") :], "policy.toml")


def test_without_a_policy_only_internal_and_emergency_numbers_are_allowed() -> None:
    assert default_ruleset().groups[0].allow.texts == ("emergency", "internal")
