"""nomad.edge.policy.warnings: what is legal and hardly meant is named with its line."""

import pytest

from nomad.edge.policy import compile_policy

CLEAN = """\
holidays = ["12-25"]
deny = ["premium"]
[numbers]
country = "FR"
[classes]
emergency = ["15", "112"]
internal = ["re:[0-9]{4}"]
national = ["0"]
mobile = ["06", "07"]
international = ["00"]
premium = ["089"]
[tariffs.mobile]
per_minute = 0.1
[[group]]
name = "boss"
match = { users = ["eve"], ldap_group = "cn=boss,dc=x" }
allow = ["internal", "national", "mobile", "international"]
deny = ["+882"]
forward = ["internal", "+3318"]
max_minutes_per_day = 100
max_minutes_per_month = 1000
max_call_minutes = 60
max_cost_per_day = 5
hours = ["Mon-Fri 07:00-21:00", "holidays 10:00-12:00"]
[[group]]
name = "staff"
match = { ldap_group = "cn=staff,dc=x" }
allow = ["internal"]
[[group]]
name = "rest"
match = { default = true }
allow = ["internal"]
"""


def test_a_clean_policy_has_no_warnings() -> None:
    assert compile_policy(CLEAN, "p").warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        # contradictions
        (
            '"internal", "national"',
            '"internal", "premium", "national"',
            "p:17: group[0].allow: 'premium' is allowed here, but deny has 'premium' (line 2): it is denied",
        ),
        (
            '"international"]\ndeny',
            '"international", "+88210"]\ndeny',
            "p:17: group[0].allow: '+88210' is allowed here, but group[0].deny has '+882' (line 18): it is denied",
        ),
        (
            'deny = ["+882"]',
            'deny = ["+", "0"]',
            "p:17: group[0].allow: 'national' is allowed here, but group[0].deny has '+' (line 18): it is denied",
        ),
        (
            'deny = ["+882"]',
            'deny = ["emergency", "112"]',
            "p:18: group[0].deny: '112' cannot be denied: emergency numbers are always allowed",
        ),
        (
            'deny = ["+882"]',
            'deny = ["premium"]',
            "p:18: group[0].deny: 'premium' is denied to everybody (line 2) already",
        ),
        # classes
        (
            'deny = ["premium"]\n',
            "",
            "p:10: classes.premium: no rule uses class premium: nobody may call it; if that is meant, write it",
        ),
        ('emergency = ["15", "112"]\n', "", "there is no class 'emergency': limits refuse emergency numbers"),
        ('["06", "07"]', "[]", "p:9: classes.mobile: class mobile has no numbers"),
        (
            '["089"]',
            '["089", "+336"]',
            "p:11: classes.premium: '+336' is in class mobile (as '06') too (line 9), and that one counts",
        ),
        ('["00"]', '["00", "+"]', "p:10: classes.international: '+' is the same as '00' here; leave one out"),
        ('["00"]', '["00", "00"]', "p:10: classes.international: '00' stands here twice; leave one out"),
        (
            '["089"]',
            '["089", "re:[0-9]{4}"]',
            "p:11: classes.premium: 're:[0-9]{4}' is in class internal too (line 7), and that one counts",
        ),
        ('["089"]', '["089", "re:(1[0-9]+)+2"]', "p:11: classes.premium: 're:(1[0-9]+)+2' repeats a repetition"),
        ('deny = ["+882"]', 'deny = ["re:([0-9]*)*"]', "p:18: group[0].deny: 're:([0-9]*)*' repeats a repetition"),
        ('deny = ["premium"]', 'deny = ["premium", "re:([0-9]+){2,}9"]', "p:2: deny: 're:([0-9]+){2,}9' repeats a"),
        # tariffs
        (
            "[tariffs.mobile]",
            "[tariffs.mobil]",
            "p:12: tariffs.mobil: there is no class 'mobil', so nothing costs this",
        ),
        ("[tariffs.mobile]", "[tariffs.emergency]", "p:12: tariffs.emergency: emergency calls are never counted"),
        (
            "[tariffs.mobile]\nper_minute = 0.1\n",
            "",
            "p:21: group[0].max_cost_per_day: is never reached: no class has a tariff; add [tariffs.CLASS]",
        ),
        # groups that nobody is in
        (
            '{ ldap_group = "cn=staff,dc=x" }',
            "{ default = true }",
            "p:29: group[2]: group rest is never reached: group staff (line 25) before it is for everybody",
        ),
        (
            '{ ldap_group = "cn=staff,dc=x" }',
            '{ ldap_group = "CN=Boss, dc=x" }',
            "p:25: group[1]: group staff is never reached: all that it matches is in group boss (line 14) before it",
        ),
        (
            '{ ldap_group = "cn=staff,dc=x" }',
            '{ ldap_group = "cn=staff,dc=x", users = ["eve"] }',
            "p:27: group[1].match: users 'eve' is in group boss (line 14) before it, and that one counts",
        ),
        # rules that never count
        (
            '"internal", "+3318"',
            '"internal", "premium"',
            "p:19: group[0].forward: 'premium' is not allowed to the group, so nothing is forwarded to it",
        ),
        ('"internal", "national"', '"internal", "internal"', "p:17: group[0].allow: 'internal' stands here twice"),
        (
            "max_minutes_per_day = 100",
            "max_minutes_per_day = 0",
            "p:20: group[0].max_minutes_per_day: is 0 and allows no call",
        ),
        (
            "max_cost_per_day = 5",
            "max_cost_per_day = 0.0",
            "p:23: group[0].max_cost_per_day: is 0 and allows no call at all",
        ),
        (
            "per_month = 1000",
            "per_month = 3100",
            "p:21: group[0].max_minutes_per_month: is never reached: max_minutes_per_day = 100 comes first",
        ),
        (
            "per_month = 1000",
            "per_month = 90",
            "p:20: group[0].max_minutes_per_day: is never reached: max_minutes_per_month = 90 is smaller",
        ),
        (
            "max_call_minutes = 60",
            "max_call_minutes = 101",
            "p:22: group[0].max_call_minutes: is never reached: 100 minutes",
        ),
        # numbers of a class that is denied
        (
            '"international"]\ndeny',
            '"international", "0899123456"]\ndeny',
            "p:17: group[0].allow: '0899123456' is allowed here, but deny has 'premium' (line 2): it is denied; "
            "give it a class of its own",
        ),
        (
            'deny = ["+882"]',
            'deny = ["+338921"]',
            "p:18: group[0].deny: '+338921' is denied to everybody (line 2) already",
        ),
        # expressions that a long number may hold up the edge with
        ("re:[0-9]{4}", "re:([0-9]|[0-9][0-9])+x", "p:7: classes.internal: 're:([0-9]|[0-9][0-9])+x' repeats a"),
        ("re:[0-9]{4}", "re:(([0-9]+))*", "p:7: classes.internal: 're:(([0-9]+))*' repeats a repetition"),
        # hours
        (
            "Mon-Fri 07:00-21:00",
            "Mon-Fri 07:00-07:00",
            "p:24: group[0].hours: 'Mon-Fri 07:00-07:00' never applies: it ends",
        ),
        (
            'holidays = ["12-25"]\n',
            "",
            "p:23: group[0].hours: 'holidays 10:00-12:00' never applies: there are no holidays; list them at the top",
        ),
    ],
)
def test_what_is_doubtful_is_named_with_its_line(old: str, new: str, warning: str) -> None:
    text = CLEAN.replace(old, new, 1)
    assert text != CLEAN
    assert any(found.startswith(warning) or warning in found for found in compile_policy(text, "p").warnings), (
        compile_policy(text, "p").warnings
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"international"]\ndeny', '"international", "08"]\ndeny'),  # some of these are of another class
        ('premium = ["089"]', 'premium = ["089"]\nhotline = ["0899123"]\n[tariffs.hotline]'),
        ("re:[0-9]{4}", "re:(06|07)[0-9]{8}"),
        ("re:[0-9]{4}", "re:([0-9]{2})?[(*+]"),
    ],
)
def test_what_is_meant_is_not_doubted(old: str, new: str) -> None:
    text = CLEAN.replace(old, new, 1)
    assert text != CLEAN
    doubts = compile_policy(text, "p").warnings
    assert not any("denied" in doubt or "repeats" in doubt for doubt in doubts), doubts


def test_an_empty_policy_says_what_it_means() -> None:
    assert "p: group: there is no [[group]]: nobody may call anything but emergency numbers" in (
        compile_policy("", "p").warnings
    )


def test_warnings_come_by_line() -> None:
    text = CLEAN.replace("max_cost_per_day = 5", "max_cost_per_day = 0").replace('["06", "07"]', "[]")
    assert [warning.split(":")[1] for warning in compile_policy(text, "p").warnings] == ["9", "23"]
